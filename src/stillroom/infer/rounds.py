"""Thinking in bounded rounds: think a little, write a summary, drop the thought, go on from question and summary.

InftyThink (https://arxiv.org/abs/2503.06692, code: ZJU-REAL/InftyThink). The context of every round is question,
history and one stretch of thought, however many rounds there are: depth costs rounds, not context.
"""

from dataclasses import dataclass

from stillroom.chat import RoundStatus, history, parse_round, without_marks
from stillroom.infer.iterate import Again, Cut, Final, Iterate, More
from stillroom.samplers.base import Prompt, Sampler
from stillroom.types import Finish, Message, Response


@dataclass(frozen=True)
class Rounds:
    """The program of InftyThink; its state is the last summary, None before there is one.

    A round without a summary is the last. A summary that is opened and not closed starts again from the question when
    there are marks of a thought, and asks the same once more when there are none (as the paper's code does). A round
    that was cut off without a summary ends the loop without an answer; the paper's code takes it for the answer.
    """

    name: str = "rounds"

    def begin(self, prompt: Prompt) -> str | None:
        return None

    def ask(self, prompt: Prompt, state: str | None) -> Prompt:
        """The question, in which no text can pass for a mark, and the summary where the assistant's turn opens."""
        messages = tuple(Message(role=m.role, content=without_marks(m.content)) for m in prompt.messages)
        prefix = prompt.prefix if state is None else history(state)
        return prompt.model_copy(update={"messages": messages, "prefix": prefix})

    def read(
        self, prompt: Prompt, state: str | None, response: Response
    ) -> Final | More[str | None] | Again[str | None] | Cut:
        found = parse_round(response.text)
        if found.status is RoundStatus.SUMMARY:
            return More(found.summary)
        if found.status is RoundStatus.BROKEN:
            thought = "<think>" in response.text or "</think>" in response.text
            return Again(None if thought else state)
        return Cut() if response.finish is Finish.LENGTH else Final(response.text)


def in_rounds(
    sampler: Sampler, *, rounds: int = 50, tokens: int | None = None, retries: int = 2
) -> Iterate[str | None]:
    """The loop of InftyThink over a sampler; `max_new_tokens` of a request is the limit of one round.

    Args:
        rounds: most rounds (50 in the paper).
        tokens: most tokens of all rounds together.
        retries: broken rounds one after the other that are forgiven (ours; the paper's code goes on to the last round).
    """
    return Iterate(sampler, Rounds(), rounds, tokens, retries)
