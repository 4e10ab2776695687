"""Manual labelling: which questions come next, one by one or as pages of predictions to correct.

Without `Rounds`, it asks about every image, in order. With them, the first round asks about every
property of random images. Each later round takes the property whose rarer class has the fewest
answers, and asks about the images of which a small model is least sure (`asking`). The random
images are always the first of one permutation, so they stay a simple random sample.
Axes: N candidates, H image height, F features.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ohlora_lib.io.disk import atomic_path
from ohlora_lib.population import asking
from ohlora_lib.population.answers import LABELS, Answer, Page, Question, Record
from ohlora_lib.population.labels import save_table
from ohlora_lib.study.parameters import LabelImages

CHECKED = 0.05  # share of the answers on pages that are asked again, by key


@dataclass(frozen=True)
class Rounds:
    """How the next images are chosen."""

    features: np.ndarray  # of the candidates, float, shape (N, F)
    first: int = 100  # random images of round 0
    by_key: int = 20  # images, at least 1, asked about one by one before the first page
    per_round: int = 48  # images of a later round
    page_images: int = 48  # images on a page, at most
    random_share: float = 0.2  # share of random images in a later round
    target: int = 1000  # number of answers wanted
    seed: int = 0


def features_of(images: np.ndarray, folder: Path) -> np.ndarray:
    """Features of the candidates, (N, F); computed once, at about 10 ms per image.

    Args:
        images: uint8, shape (N, H, H, 3).
        folder: Keeps them, as long as the images stay the same.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(images).data, digest_size=8).hexdigest()
    path = folder / f"features-{digest}.npy"
    if not path.exists():
        found = asking.features(images)
        with atomic_path(path) as temporary:
            np.save(temporary, found)
    return np.load(path)


class LabelSession:
    """The progress of a labelling session and its answers.

    Args:
        images: uint8, shape (N, H, H, 3).
        properties: Properties to ask about.
        folder: Receives `answers.csv` and `labels.csv`. A session resumes from answers already
            there; ValueError if they concern other properties or images.
        files: File names of the N images.
        by_image: Ask about all properties of an image at once; otherwise property by property.
        rounds: How to choose the images; if None, all are asked about in order.
    """

    def __init__(
        self,
        images: np.ndarray,
        properties: Sequence[str],
        folder: Path,
        *,
        files: Sequence[str],
        by_image: bool = False,
        rounds: Rounds | None = None,
    ) -> None:
        self.record = Record(images, properties, folder, files)
        self.images, self.properties, self.folder = images, properties, folder
        self.by_image, self.rounds, self.finished = by_image, rounds, rounds is None
        self.place, self._scores, self.pages = 0, {}, []
        if rounds:
            self.pages = self.record.load_pages()
        else:
            self._take_all()
        planned = {question.prop for page in self.pages for question in page.questions}
        asked = planned | {question.prop for question in self.answers}
        self._new = [prop for prop in properties if asked and prop not in asked]
        self.place = self._next_open(0)
        self._since = time.monotonic()

    @property
    def answers(self) -> dict[Question, str]:
        """The answers so far, each a key of `LABELS`."""
        return self.record.answers

    @property
    def page(self) -> Page | None:
        """The current page; None if the next ones must be chosen, or all is answered."""
        return self.pages[self.place] if self.place < len(self.pages) else None

    @property
    def question(self) -> Question | None:
        """The first question of the current page; None if no page is open."""
        return self.page.questions[0] if self.page else None

    @property
    def must_choose(self) -> bool:
        """Whether the next pages must be chosen, which takes some seconds."""
        return self.page is None and not self.finished

    def filled_in(self) -> list[str]:
        """What the current page shows per question: the earlier answer or the prediction."""
        page, given = self.page, self.record.given
        guesses = ["1" if score >= 0.5 else "0" for score in page.scores]
        pairs = zip(page.questions, guesses, strict=True)
        return [given[q].answer if q in given else guess for q, guess in pairs]

    def answer(self, *answers: str) -> None:
        """Writes the answers to the current page to disk and moves to the next open page.

        Args:
            *answers: A key of `LABELS` per question of the page.
        """
        page = self.page
        if page is None:
            raise ValueError("no question is open. Call `choose` for the next ones.")
        if set(answers) - LABELS.keys() or len(answers) != len(page.questions):
            raise ValueError(
                f"{' '.join(answers)!r} is not one of {list(LABELS)} per image; the page has "
                f"{len(page.questions)}"
            )
        sec = round((time.monotonic() - self._since) / len(answers), 2)
        made = [Answer(answer, page.how, page.round, sec) for answer in answers]
        self.record.add(dict(zip(page.questions, made, strict=True)))
        save_table(self.folder / "labels.csv", self.table())
        self._go(self._next_open(self.place + 1))

    def back(self) -> None:
        """Goes back to the previous page, answered or not; new answers replace the old."""
        self._go(max(self.place - 1, 0))

    def choose(self) -> None:
        """Plans the next pages if none is open; trains models for a few seconds."""
        if self.must_choose:
            pages = self._by_key() or self._random_part() or self._checks() or self._next_round()
            self.record.save_pages([*self.pages, *pages])
            self.finished = not pages
            self.pages += pages
            self._go(self._next_open(self.place))

    def table(self) -> pd.DataFrame:
        """The label table; chosen images have weights. Columns as in `Record.table`."""
        weights = {}
        for prop in self.properties:
            rows = [q.img_no for q in self.answers if q.prop == prop]
            source = np.array([self.record.source(k) for k in rows])
            if self.rounds and "chosen" in source:
                found = asking.weights(self._guess(prop), np.array(rows), source)
                weights[prop] = pd.Series(found, rows)
        return self.record.table(weights)

    def progress(self) -> str:
        """How far the session is; with rounds also the pace and the result of the checks."""
        counts = {prop: self._counts(prop) for prop in self.properties}
        if self.rounds is None:
            prop = self.question.prop if self.question else self.properties[-1]
            asked = len(self.images) * len(self.properties)
            yes, no, skip = counts[prop]
            return (
                f"{len(self.answers)} of {asked} answered. "
                f"{prop}: {yes} yes, {no} no, {skip} skipped."
            )
        shares = ", ".join(f"{prop} {yes} / {no}" for prop, (yes, no, _) in counts.items())
        text = f"{len(self.answers):,} answers. Yes / no: {shares}.{self._pace()}"
        checked, differ = self.record.checks()
        return f"{text} Of {checked} checked again, {differ} differed." if checked else text

    def notes(self) -> list[str]:
        """Sentences about answers from which nothing can be learned, and about new properties."""
        found = []
        for prop in self.properties:
            yes, no, _ = self._counts(prop)
            if yes + no >= 20 and not (yes and no):
                found.append(
                    f"All {yes + no} answers for {prop} are {'yes' if yes else 'no'}, so nothing "
                    f"can be learned yet: check what 0 and 1 mean, or answer more questions."
                )
            elif prop in self._new and not yes + no:
                found.append(
                    f"{prop} is new: its first questions are about the {len(self.record.random)} "
                    f"images drawn at random so far."
                )
        return found

    def _counts(self, prop: str) -> tuple[int, int, int]:
        """Numbers of yes, no and skipped answers."""
        mine = [answer for question, answer in self.answers.items() if question.prop == prop]
        return mine.count("1"), mine.count("0"), mine.count("skip")

    def _pace(self) -> str:
        """Answers per minute, by key and on pages, and the time left to the target."""
        hows = {"key": "key", "check": "key", "grid": "page"}
        given = [(hows[answer.how], answer.sec) for answer in self.record.given.values()]
        secs = pd.DataFrame(given, columns=["how", "sec"]).groupby("how")["sec"].median().dropna()
        words = ", ".join(f"{60 / max(sec, 0.01):.0f} by {how}" for how, sec in secs.items())
        left = self.rounds.target - len(self.answers)
        if secs.empty or left <= 0:
            return f" The target of {self.rounds.target:,} is reached." if left <= 0 else ""
        minutes = left * secs.get("page", secs.iloc[-1]) / 60
        target = f"{minutes:.0f} min to {self.rounds.target:,} answers"
        return f" Answers per minute: {words}; {target}."

    def _go(self, place: int) -> None:
        self.place, self._since = place, time.monotonic()

    def _next_open(self, place: int) -> int:
        given = self.record.given
        while place < len(self.pages) and given.keys() >= set(self.pages[place].questions):
            place += 1
        return place

    def _take_all(self) -> None:
        """Plans a question about each property of each image, in order."""
        if any(question.img_no not in self.record.random for question in self.record.given):
            raise ValueError(
                f"{self.folder / 'answers.csv'}: has images that were chosen. Continue with "
                f"`order: chosen`, or label in order in another variant."
            )
        self.record.random = dict.fromkeys(range(len(self.images)))
        questions = [Question(k, p) for p in self.properties for k in self.record.random]
        if self.by_image:
            questions.sort(key=lambda question: question.img_no)  # stable
        self.pages = [Page((question,)) for question in questions]

    def _draw(self, count: int) -> None:
        """Draws until `count` images are random; a chosen one that is drawn counts as random."""
        order = np.random.default_rng(self.rounds.seed).permutation(len(self.images)).tolist()
        new = [k for k in order if k not in self.record.random]
        self.record.random |= dict.fromkeys(new[: max(0, count - len(self.record.random))])

    @property
    def _round(self) -> int:
        return max((page.round for page in self.pages), default=0)

    def _open(self, images: Sequence[int], prop: str) -> list[Question]:
        asked = [Question(int(k), prop) for k in images]
        return [question for question in asked if question not in self.record.given]

    def _by_key(self) -> list[Page]:
        """Open questions about the first random images, one by one."""
        self._draw(self.rounds.first)
        firsts = list(self.record.random)[: self.rounds.by_key]
        questions = [q for prop in self.properties for q in self._open(firsts, prop)]
        if self.by_image:
            questions.sort(key=lambda question: firsts.index(question.img_no))  # stable
        return [Page((q,), "key", self._round, (np.nan,)) for q in questions]

    def _random_part(self) -> list[Page]:
        """Pages for the first property with open questions about random images."""
        asked = ((p, self._open(list(self.record.random), p)) for p in self.properties)
        return next((self._pages(p, found, self._round) for p, found in asked if found), [])

    def _checks(self) -> list[Page]:
        """Questions that ask again, by key, about a random share of the answers on pages."""
        given = self.record.given
        on_pages = [q for q, answer in given.items() if answer.how == "grid"]
        again = [q for q in on_pages if Question(*q[:2], check=True) not in given]
        due = round(CHECKED * len(on_pages)) - (len(on_pages) - len(again))
        rng = np.random.default_rng([self.rounds.seed, len(self.pages)])
        picked = rng.permutation(len(again))[: max(0, due)]
        asked = [Question(*again[k][:2], check=True) for k in picked]
        return [Page((q,), "check", self._round, (np.nan,)) for q in asked]

    def _next_round(self) -> list[Page]:
        """Pages of chosen and random images for the property with the fewest rarer answers."""
        everyone = range(len(self.images))
        open_ones = [prop for prop in self.properties if self._open(everyone, prop)]
        if not open_ones:
            return []
        prop = min(open_ones, key=lambda prop: min(self._counts(prop)[:2]))
        number, ask = self._round + 1, self.rounds
        at_random = round(ask.per_round * ask.random_share)
        self._draw(len(self.record.random) + at_random)
        drawn = self._open(list(self.record.random), prop)
        labels = self._labels(prop)
        unasked = {q.img_no for q in self._open(everyone, prop)} - {q.img_no for q in drawn}
        pool = [k for k in everyone if k in unasked or not np.isnan(labels[k])]  # none skipped
        if unasked:
            found = asking.next_images(
                ask.features[pool], labels[pool], count=ask.per_round - at_random,
                random_share=0.0, seed=ask.seed + number,
            )  # fmt: skip
            drawn += [Question(pool[k], prop) for k in found["img_no"]]
        return self._pages(prop, drawn, number)

    def _pages(self, prop: str, questions: list[Question], number: int) -> list[Page]:
        """Deals questions to pages, with predictions, most probable ones first on a page.

        They are dealt at random: what is answered when a person stops remains a fair sample.
        """
        questions = sorted(questions)
        scores = self._guess(prop, anew=True)[[q.img_no for q in questions]]
        if np.isnan(scores).any():  # one class has no answers: fill in the commoner
            yes, no, _ = self._counts(prop)
            scores = np.full(len(questions), float(yes > no))
        order = np.random.default_rng([self.rounds.seed, number]).permutation(len(questions))
        parts = np.array_split(order, -(-len(order) // self.rounds.page_images))
        parts = [part[np.argsort(-scores[part], kind="stable")] for part in parts]
        return [
            Page(tuple(questions[k] for k in part), "grid", number, tuple(scores[part].tolist()))
            for part in parts
        ]

    def _labels(self, prop: str) -> np.ndarray:
        """Labels of a property, shape (N,), NaN for images without one."""
        labels = np.full(len(self.images), np.nan)
        for question, answer in self.answers.items():
            if question.prop == prop and LABELS[answer] is not None:
                labels[question.img_no] = LABELS[answer]
        return labels

    def _guess(self, prop: str, *, anew: bool = False) -> np.ndarray:
        """Probabilities of a 1, shape (N,), from the answers when pages were last planned."""
        if anew or prop not in self._scores:
            ask = self.rounds
            self._scores[prop] = asking.guess(ask.features, self._labels(prop))
        return self._scores[prop]


def open_session(
    config: LabelImages, images: np.ndarray, files: Sequence[str], folder: Path
) -> LabelSession:
    """Opens the session that the parameters describe; errors and arguments as `LabelSession`.

    Disagreements are settled in order, without predictions, which could bias people.
    """
    rounds = None
    if config.order == "chosen" and not config.settle_csv:
        rounds = Rounds(features_of(images, folder), **config.pick(Rounds))
    return LabelSession(
        images, config.properties, folder, files=files, by_image=config.by_image, rounds=rounds
    )
