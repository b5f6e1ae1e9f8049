"""What a transformers model takes in, as one tensor: so that methods can keep, draw and mix examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

LARGEST = 2**24  # up to which float32 holds every whole number


@dataclass(frozen=True)
class Form:
    """How named inputs are laid side by side: token numbers [N, L] each as [N, K, L], or one float input as it is.

    Token numbers are kept in float32, as all examples are; exactly, up to 2**24.

    >>> form = Form(("input_ids", "attention_mask"), 4, (9, 0))
    >>> x = form.pack({"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.tensor([[1, 1]])})
    >>> x
    tensor([[[5., 6., 9., 9.],
             [1., 1., 0., 0.]]])
    >>> form.unpack(x, width=2)
    {'input_ids': tensor([[5, 6]]), 'attention_mask': tensor([[1, 1]])}
    """

    names: tuple[str, ...]
    length: int  # L; 0: one float input
    padding: tuple[int, ...] = ()  # of each name

    @classmethod
    def of(cls, batches: Sequence[Mapping[str, Tensor]], length: int | None, padding: int) -> Form:
        """The form of these collated batches, whose tokens are padded with this number.

        Raises:
            ValueError: inputs that are neither token numbers [N, L] nor one float input.
        """
        inputs = {k: v for k, v in batches[0].items() if k != "labels"}
        names = tuple(inputs)
        if len(names) == 1 and inputs[names[0]].is_floating_point():
            return cls(names, 0)
        for k, v in inputs.items():
            if not isinstance(v, Tensor) or v.dim() != 2 or v.is_floating_point():
                what = f"{v.dtype} {list(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
                raise ValueError(
                    f"input {k!r} is {what}; a method can keep token numbers [N, L], or one float input such as "
                    "pixel_values"
                )
        longest = max(b[names[0]].shape[1] for b in batches)
        return cls(names, length or longest, tuple(padding if k == "input_ids" else 0 for k in names))

    def pack(self, inputs: Mapping[str, Any]) -> Tensor:
        """Named inputs as one tensor [N, ...].

        Raises:
            ValueError: one is missing, or longer than `length`; a number that float32 does not hold.
        """
        if lacking := [k for k in self.names if k not in inputs]:
            raise ValueError(f"the inputs lack {lacking[0]!r}, which the first task's had")
        if not self.length:
            x: Tensor = inputs[self.names[0]]
            return x
        rows = []
        for k, fill in zip(self.names, self.padding, strict=True):
            v: Tensor = inputs[k]
            if v.shape[1] > self.length:
                raise ValueError(
                    f"an example of {v.shape[1]} tokens, where {self.length} is the longest: RetainCallback(..., "
                    f"length={v.shape[1]})"
                )
            if bool((v.abs() > LARGEST).any()):
                raise ValueError(f"{k} holds a number above {LARGEST}, which float32 does not hold exactly")
            rows.append(nnf.pad(v, (0, self.length - v.shape[1]), value=fill))
        return torch.stack(rows, 1).to(torch.float32)

    def unpack(self, x: Tensor, width: int | None = None) -> dict[str, Tensor]:
        """What `pack` was given; with `width` no longer than that, unless an example is."""
        if not self.length:
            return {self.names[0]: x}
        if width is not None:
            if "attention_mask" in self.names:
                used = x[:, self.names.index("attention_mask")].any(0).nonzero()
                width = max(width, int(used.max()) + 1 if len(used) else 0)
            else:
                width = self.length
            x = x[..., :width]
        return dict(zip(self.names, x.long().unbind(1), strict=True))


class Network(nn.Module):
    """A transformers model as a network from one tensor [N, ...] to logits [N, C]."""

    def __init__(self, model: nn.Module, form: Form):
        super().__init__()
        self.model, self.form = model, form

    def forward(self, x: Tensor) -> Tensor:
        """The model's logits."""
        logits: Tensor = self.model(**self.form.unpack(x)).logits
        return logits

    @property
    def training(self) -> bool:
        """The model's own mode: others put it in training and evaluation mode without asking here."""
        model = self._modules.get("model") if "_modules" in self.__dict__ else None
        return model is None or model.training

    @training.setter
    def training(self, mode: bool) -> None:
        """Set where the model's is."""
