"""The sandbox's answers in the demo: a few sentences about budgets and keys instead of an echo.

Rule: they are used only for conversations that start with the demo's own system prompt.
"""

import re

_DEMO = "You are the assistant of the Wattfare demo."
_COST = """This answer was paid from the budget that you connected: its most was held before it began, and now that
it is whole, what it really cost is booked. Look at the bar above: it moved by a fraction of a cent."""
_STOP = """You set the cap, and only you can raise it. At its end I fall silent, and your OpenRouter account goes
on. Open “My budget” to see every app you pay for, to pause one, or to stop everything with one button."""
_KEY = """This app never sees your OpenRouter key. It sends your question with its own secret key and names you in a
header; the gateway puts your key in its place. Neither your questions nor my answers are kept."""
_HELLO = """Hello! I am a stand-in for a real model, so that you can try all of this without spending anything. Ask
me what it costs, how to stop it, or whether your key is safe."""
_ELSE = """I am only a stand-in, so I cannot tell you much about “{topic}”. With the real OpenRouter behind the
gateway a real model would answer here, word by word just like this, and you would pay a fraction of a cent for
it."""
_ABOUT = {
    r"cost|costs|price|pay|paid|pays|cheap|expensive|money|bill": _COST,
    r"stop|cap|limit|revoke|cancel|disconnect|budget": _STOP,
    r"key|secret|safe|privacy|private|trust|secure": _KEY,
    r"hello|hi|hey": _HELLO,
}
_MOST_CHARS = 80


def reply(instructions: str, question: str) -> str | None:
    """Return the answer to a question of the demo, None for any other conversation."""
    if not instructions.startswith(_DEMO):
        return None
    topic = " ".join(question.split())
    about = next((text for words, text in _ABOUT.items() if re.search(rf"\b({words})\b", topic, re.IGNORECASE)), _ELSE)
    short = topic if len(topic) <= _MOST_CHARS else f"{topic[:_MOST_CHARS]}…"
    return " ".join(about.split()).replace("{topic}", short)
