"""What stands inside the drawings, in each language; the pages' sentences are in their templates."""

from __future__ import annotations

LANGUAGES = {"en": "English", "zh": "中文"}

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "accuracy": "test accuracy",
        "steps": "steps",
        "on": "on {}",
        "noisy": "noisy digits",
        "clean": "clean digits",
        "sgd": "SGD",
        "l2": "L2",
        "ewc": "EWC",
        "loss": "loss (nats)",
        "task_loss": "loss of task {}",
        "axis_1": "along θᵇ − θ⁰",
        "axis_2": "across it",
        "move": "added to the parameter",
        "small": "small b = {}",
        "large": "large b = {}",
        "measured": "measured",
        "parabola": "L + b·move²/2",
        "correct": "digits told right",
        "from_above": "from above: the plane of g1 and g2",
        "in_plane": "the plane of g and g1",
        "in_space": "the space of g, g1 and g2",
        "curve_said": "Line chart: accuracy on {task} while {tasks} are learned in turn. At the end: {ends}.",
        "surface_said": "Map of the loss of task {task} over the plane. "
        "SGD ends at loss {sgd}, EWC with lambda {lam} at {ewc}.",
        "moved_said": "Loss of task 1 as one parameter with second derivative {b} is moved: "
        "{here} where it is, {edge} at the farther edge.",
        "accuracy_said": "Accuracy on task 1 as the same parameter is moved: "
        "{here} where it is, {edge} at the worse edge.",
        "gem_said": "Arrows g, the past tasks' gradients and g'. "
        "Angles between g and them: {before} degrees; between g' and them: {after} degrees.",
        "matrix": "accuracy in %",
        "untrained": "untrained",
        "after": "after {}",
        "dream_said": "{n} digits drawn by the generator after task {task}",
    },
    "zh": {
        "accuracy": "测试准确率",
        "steps": "步数",
        "on": "在{}上",
        "noisy": "带噪数字",
        "clean": "干净数字",
        "sgd": "SGD",
        "l2": "L2",
        "ewc": "EWC",
        "loss": "损失（奈特）",
        "task_loss": "任务 {} 的损失",
        "axis_1": "沿 θᵇ − θ⁰",
        "axis_2": "与之垂直",
        "move": "参数的改变量",
        "small": "小的 b = {}",
        "large": "大的 b = {}",
        "measured": "实测",
        "parabola": "L + b·Δ²/2",
        "correct": "答对的数字",
        "from_above": "俯视：g1 与 g2 的平面",
        "in_plane": "g 与 g1 的平面",
        "in_space": "g、g1、g2 的空间",
        "curve_said": "折线图：依次学习 {tasks} 时，在 {task} 上的准确率。最后：{ends}。",
        "surface_said": "任务 {task} 的损失在平面上的分布。SGD 终点的损失为 {sgd}，λ = {lam} 的 EWC 为 {ewc}。",
        "moved_said": "移动一个二阶导数为 {b} 的参数时任务 1 的损失：原处 {here}，较远一端 {edge}。",
        "accuracy_said": "移动同一参数时任务 1 的准确率：原处 {here}，较差一端 {edge}。",
        "gem_said": "箭头 g、过去任务的梯度以及 g'。g 与它们的夹角：{before} 度；g' 与它们的夹角：{after} 度。",
        "matrix": "准确率（%）",
        "untrained": "未训练",
        "after": "学完 {}",
        "dream_said": "任务 {task} 之后生成器画出的 {n} 个数字",
    },
}


def percent(value: float) -> str:
    r"""A share as a percentage.

    >>> percent(0.8567)
    '85.7\u202f%'
    """
    return f"{100 * value:.1f}\u202f%"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign.

    >>> points(-0.0567), points(0)
    ('−5.7', '+0.0')
    """
    return f"{100 * value + 0.0:+.1f}".replace("-", "−")


def figure(value: float) -> str:
    r"""A number to three significant digits; from a thousand on the whole number, its thousands apart.

    >>> figure(0.012345), figure(10000), figure(0), figure(-2.5)
    ('0.0123', '10\u202f000', '0', '−2.5')
    """
    text = f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")
