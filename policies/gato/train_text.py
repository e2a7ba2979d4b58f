"""Makes the text model: `python -m policies.gato.train_text [--output FILE] [--seed N]`.

The corpus is generated: the stacking tasks and their paraphrases, other instructions, captions of table scenes,
questions with answers, and a little of the talk around games. The same seed gives the same model, byte for byte.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import sentencepiece

from policies.gato.text import MODEL

VOCABULARY = 1024
SENTENCES = 24_000

COLOURS = "red green blue yellow orange purple pink white black grey brown cyan".split()
BLOCK_COLOURS = COLOURS[:3]
SHAPES = (
    "block cube box ball cylinder cone pyramid triangle prism plate cup bowl mug bottle lid drawer button sponge spoon "
    "peg ring disc star cross towel marker can tray"
).split()
SIZES = "small large big little tiny tall short long flat round square heavy light".split()
MATERIALS = "wooden plastic metal rubber paper glass".split()
RELATIONS = (
    "left of|right of|behind|in front of|next to|near|far from|on|on top of|under|above|below|inside|between|beside"
).split("|")
PLACES = (
    "table|middle of the table|left side|right side|edge of the table|corner|shelf|floor|bin|tray|marker|base|robot"
).split("|")
VERBS_ONE = (
    "pick up|lift|push|pull|slide|turn|rotate|flip|grasp|grab|release|touch|point at|look at|reach for|drop|hold|open|"
    "close|press|find|move|wipe|tap|shake|remove|take away|bring back|let go of"
).split("|")
VERBS_TWO = "put|place|set|move|lay|drop|insert|carry|slide|push|lean|pour|sort|transfer|return".split("|")
JOIN = "on|onto|on top of|into|next to|behind|in front of|to the left of|to the right of|near|under|against".split("|")
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
MOVES = "left right up down forward backward jump fire start select turn wait stop go".split()
POLITE = "", "please ", "now ", "then ", "carefully ", "slowly ", "can you ", "could you ", "next, ", "first, "

Pick = Callable[..., str]


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("x", "s")) else "s")


def _object(pick: Pick) -> str:
    return pick(
        f"{pick(COLOURS)} {pick(SHAPES)}",
        f"{pick(SIZES)} {pick(COLOURS)} {pick(SHAPES)}",
        f"{pick(BLOCK_COLOURS)} block",
        f"{pick(BLOCK_COLOURS)} {pick('block', 'cube')}",
        f"{pick(MATERIALS)} {pick(SHAPES)}",
        f"{pick(COLOURS)} one",
    )


def _stacking(pick: Pick) -> str:
    moved = pick(BLOCK_COLOURS)
    base = pick([colour for colour in BLOCK_COLOURS if colour != moved])
    thing = pick("block", "block", "cube", "object")
    sentence = pick(
        f"stack the {moved} block on the {base} block",
        f"stack the {moved} block on the {base} block",
        f"stack {moved} on {base}",
        f"stack the {moved} {thing} on top of the {base} {thing}",
        f"put the {moved} {thing} on the {base} {thing}",
        f"place the {moved} {thing} onto the {base} one",
        f"{moved} on {base}",
        f"build a tower of two {thing}s with {moved} on top and {base} at the bottom",
        f"the {moved} {thing} belongs on the {base} {thing}",
        f"pick up the {moved} {thing} and set it down on the {base} {thing}",
    )
    return sentence if pick("plain", "polite") == "plain" else pick(POLITE) + sentence


def _instruction(pick: Pick) -> str:
    return pick(POLITE) + pick(
        f"{pick(VERBS_ONE)} the {_object(pick)}",
        f"{pick(VERBS_TWO)} the {_object(pick)} {pick(JOIN)} the {_object(pick)}",
        f"{pick(VERBS_TWO)} the {_object(pick)} {pick(JOIN)} the {pick(PLACES)}",
        f"{pick(VERBS_ONE)} the {_object(pick)} and {pick(VERBS_TWO)} it {pick(JOIN)} the {_object(pick)}",
        f"{pick(VERBS_ONE)} every {pick(COLOURS)} {pick(SHAPES)}",
        f"move the {pick('gripper', 'arm', 'wrist', 'hand')} {pick(MOVES)}",
        f"{pick('open', 'close')} the gripper",
    )


def _caption(pick: Pick) -> str:
    return pick(
        f"a {_object(pick)} is {pick(RELATIONS)} a {_object(pick)}",
        f"the {_object(pick)} is {pick(RELATIONS)} the {_object(pick)} and the gripper is {pick('open', 'closed')}",
        f"there are {pick(NUMBERS)} {_plural(pick(SHAPES))} on the {pick(PLACES)}",
        f"the robot arm {pick('holds', 'lifts', 'moves', 'releases', 'reaches for', 'approaches')} the {_object(pick)}",
        f"an image of a {_object(pick)}, a {_object(pick)} and a {_object(pick)} on a {pick(MATERIALS)} table",
        f"nothing is {pick(RELATIONS)} the {_object(pick)}",
        f"the {pick(COLOURS)} {pick(SHAPES)} stands {pick(RELATIONS)} the {pick(PLACES)}",
    )


def _question(pick: Pick) -> str:
    answer = pick("yes", "no")
    return pick(
        f"question: is the {_object(pick)} {pick(RELATIONS)} the {_object(pick)}? answer: {answer}",
        f"question: how many {_plural(pick(SHAPES))} are there? answer: {pick(NUMBERS)}",
        f"question: what colour is the {pick(SHAPES)} {pick(RELATIONS)} the {_object(pick)}? answer: {pick(COLOURS)}",
        f"question: where is the {_object(pick)}? answer: {pick(RELATIONS)} the {_object(pick)}",
        f"question: what is the robot doing? answer: it {pick('lifts', 'places', 'stacks')} the {_object(pick)}",
        f"question: is the task done? answer: {answer}",
        f"question: did the robot succeed? answer: {answer}, the {_object(pick)} {pick('fell', 'rests', 'slipped')}",
        f"what is {pick(RELATIONS)} the {_object(pick)}? the {_object(pick)}",
    )


def _game(pick: Pick) -> str:
    return pick(
        f"press {pick(MOVES)} and {pick(MOVES)}",
        f"the player moves {pick(MOVES)}, the score is {pick(NUMBERS)}",
        f"play the game: reach the {pick(COLOURS)} {pick('door', 'key', 'goal', 'square')} before time runs out",
        f"level {pick(NUMBERS)}: the {pick(COLOURS)} {pick('key', 'door', 'enemy')} is on the {pick('left', 'right')}",
    )


def corpus(seed: int, sentences: int = SENTENCES) -> Iterator[str]:
    """`sentences` generated sentences; a fifth are capitalised and stopped, since people write so too."""
    rng = np.random.default_rng(seed)

    def pick(*choices: str | list[str] | tuple[str, ...]) -> str:
        pool = choices[0] if len(choices) == 1 and not isinstance(choices[0], str) else choices
        return str(pool[int(rng.integers(len(pool)))])

    kinds = (_stacking, _stacking, _instruction, _instruction, _caption, _caption, _question, _game)
    for _ in range(sentences):
        sentence = kinds[int(rng.integers(len(kinds)))](pick)
        yield sentence[0].upper() + sentence[1:] + pick(".", "", "!") if rng.random() < 0.2 else sentence


def train(seed: int, sentences: int = SENTENCES) -> bytes:
    """The serialised SentencePiece model of `corpus(seed, sentences)`.

    Merges (BPE) rather than unigram, because counting is the same on every machine; no normalisation, because what is
    encoded has to come back as it was; an iterator and a buffer, because a model remembers the paths it was made from.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(seed, sentences),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        hard_vocab_limit=True,
        byte_fallback=True,
        split_digits=True,
        character_coverage=1.0,
        required_chars="".join(chr(code) for code in range(33, 127)),
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        shuffle_input_sentence=False,
        num_threads=1,
        unk_id=0,
        eos_id=1,
        bos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=MODEL)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.write_bytes(train(arguments.seed))


if __name__ == "__main__":
    main()
