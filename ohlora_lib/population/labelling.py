"""Manual labelling: which questions come next, one by one or as pages of predictions to correct.

In order, it asks about every image. With `order: chosen`, the first round asks about every
property of random images. Each later round takes the property whose rarer class has the fewest
answers, and asks about the images of which a small model is least sure (`asking`). The random
images are always the first of one permutation, so they stay a simple random sample.
Axes: N candidates, H image height, F features.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from ohlora_lib.io.disk import atomic_path
from ohlora_lib.population import asking
from ohlora_lib.population.answers import LABELS, PAIR, Record, questions
from ohlora_lib.population.labels import save_table
from ohlora_lib.study.parameters import LabelImages

CHECKED = 0.05  # share of the answers on pages that are asked again, by key
RANDOM_SHARE = 0.2  # share of random images in a later round


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
        config: Says what to ask about and in which order. Disagreements (`settle_csv`) are settled
            in order, without predictions, which could bias people.
        images: uint8, shape (N, H, H, 3).
        files: File names of the N images.
        folder: Receives `answers.csv` and `labels.csv`. A session resumes from answers already
            there; ValueError if they concern other properties or images.
    """

    def __init__(
        self, config: LabelImages, images: np.ndarray, files: Sequence[str], folder: Path
    ) -> None:
        self.record = Record(images, config.properties, folder, files)
        self.config, self.images, self.folder = config, images, folder
        self.in_order = self.finished = config.order == "in order" or bool(config.settle_csv)
        self._scores: dict[str, np.ndarray] = {}
        if self.in_order:
            self._take_all()
        else:
            self.features = features_of(images, folder)
            self.record.resume()
        asked = set(self.record.questions["property"])
        self._new = [prop for prop in config.properties if asked and prop not in asked]
        self._go(self._next_open(0))

    @property
    def page(self) -> pd.DataFrame | None:
        """The questions of the current page; None if the next must be chosen, or none is left."""
        asked = self.record.questions
        page = asked[asked["page"] == self.place]
        return None if page.empty else page

    @property
    def prop(self) -> str:
        """The property that the current page asks about; the last one if no page is open."""
        return self.config.properties[-1] if self.page is None else self.page.iloc[0]["property"]

    @property
    def how(self) -> str:
        """How the current page asks: key, grid or check."""
        first = self.page.iloc[0]
        return "check" if first["check"] else "key" if np.isnan(first["score"]) else "grid"

    @property
    def must_choose(self) -> bool:
        """Whether the next pages must be chosen, which takes some seconds."""
        return self.page is None and not self.finished

    def filled_in(self) -> list[str]:
        """What the current page shows per question: the earlier answer or the prediction."""
        given, guesses = self.page["answer"], np.where(self.page["score"] >= 0.5, "1", "0")
        return given.where(given != "", guesses).tolist()

    def answer(self, *answers: str) -> None:
        """Writes the answers to the current page to disk and moves to the next open page.

        Args:
            *answers: A key of `LABELS` per question of the page.
        """
        page = self.page
        if page is None:
            raise ValueError("no question is open. Call `choose` for the next ones.")
        if set(answers) - LABELS.keys() or len(answers) != len(page):
            raise ValueError(
                f"{' '.join(answers)!r} is not one of {list(LABELS)} per image; the page has "
                f"{len(page)}"
            )
        sec = round((time.monotonic() - self._since) / len(answers), 2)
        self.record.answer(page.index, answers, self.how, sec)
        save_table(self.folder / "labels.csv", self.table())
        self._go(self._next_open(self.place + 1))

    def back(self) -> None:
        """Goes back to the previous page, answered or not; new answers replace the old."""
        self._go(max(self.place - 1, 0))

    def choose(self) -> None:
        """Plans the next pages if none is open; trains models for a few seconds."""
        if self.must_choose:
            plans = self._by_key, self._random_part, self._checks, self._next_round
            pages = next((pages for plan in plans if len(pages := plan())), questions([]))
            self.record.plan(pages.assign(page=pages["page"] + self.place))
            self.finished = pages.empty
            self._go(self.place)

    def table(self) -> pd.DataFrame:
        """The label table; columns as in `Record.table`, and PROPERTY_weight for chosen images."""
        table = self.record.table()
        source = table.set_index("img_no")["source"]
        for prop in self.config.properties:
            rows = self._of(prop)["img_no"].to_numpy()
            if not self.in_order and (source[rows] == "chosen").any():
                found = asking.weights(self._guess(prop), rows, source[rows].to_numpy())
                table[f"{prop}_weight"] = table["img_no"].map(pd.Series(found, rows))
        return table

    def progress(self) -> str:
        """How far the session is; if it chooses, also the pace and the result of the checks."""
        counts, answers = self._counts(), len(self.record.answers)
        if self.in_order:
            yes, no, skip = counts.loc[self.prop]
            return (
                f"{answers} of {len(self.images) * len(counts)} answered. "
                f"{self.prop}: {yes} yes, {no} no, {skip} skipped."
            )
        shares = ", ".join(f"{prop} {yes} / {no}" for prop, yes, no, _ in counts.itertuples())
        text = f"{answers:,} answers. Yes / no: {shares}.{self._pace(answers)}"
        checked, differ = self.record.checks()
        return f"{text} Of {checked} checked again, {differ} differed." if checked else text

    def notes(self) -> list[str]:
        """Sentences about answers from which nothing can be learned, and about new properties."""
        found = []
        for prop, yes, no, _ in self._counts().itertuples():
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

    def _counts(self) -> pd.DataFrame:
        """Numbers of yes, no and skipped answers, one row per property."""
        counts = self.record.answers[["property", "answer"]].value_counts()
        every = pd.MultiIndex.from_product([self.config.properties, list(LABELS)])
        return counts.reindex(every, fill_value=0).unstack(sort=False)

    def _pace(self, answers: int) -> str:
        """Answers per minute, by key and on pages, and the time left to the target."""
        given = self.record.given
        way = given["how"].map({"key": "key", "check": "key", "grid": "page"})
        secs = given["sec"].groupby(way).median().dropna()
        words = ", ".join(f"{60 / max(sec, 0.01):.0f} by {how}" for how, sec in secs.items())
        left = self.config.target - answers
        if secs.empty or left <= 0:
            return f" The target of {self.config.target:,} is reached." if left <= 0 else ""
        minutes = left * secs.get("page", secs.iloc[-1]) / 60
        target = f"{minutes:.0f} min to {self.config.target:,} answers"
        return f" Answers per minute: {words}; {target}."

    def _go(self, place: int) -> None:
        self.place, self._since = place, time.monotonic()

    def _next_open(self, place: int) -> int:
        """The first page from `place` on without answers; if none, the number of pages."""
        asked = self.record.questions
        still_open = asked.loc[(asked["answer"] == "") & (asked["page"] >= place), "page"]
        return int(min(still_open, default=max(asked["page"].dropna(), default=-1) + 1))

    def _take_all(self) -> None:
        """Plans a question about each property of each image, in order."""
        if not self.record.given["img_no"].isin(list(self.record.random)).all():
            raise ValueError(
                f"{self.folder / 'answers.csv'}: has images that were chosen. Continue with "
                f"`order: chosen`, or label in order in another variant."
            )
        self.record.random = dict.fromkeys(range(len(self.images)))
        pairs = self._one_by_one(range(len(self.images)))
        self.record.resume(questions(pairs, page=range(len(pairs))))

    def _one_by_one(self, images: Sequence[int]) -> list[tuple[int, str]]:
        """All pairs of these images and a property, in the order to ask."""
        if self.config.by_image:
            return list(product(images, self.config.properties))
        return [(k, prop) for prop, k in product(self.config.properties, images)]

    def _draw(self, count: int) -> None:
        """Draws until `count` images are random; a chosen one that is drawn counts as random."""
        order = np.random.default_rng(self.config.seed).permutation(len(self.images)).tolist()
        new = [k for k in order if k not in self.record.random]
        self.record.random |= dict.fromkeys(new[: max(0, count - len(self.record.random))])

    @property
    def _round(self) -> int:
        return max(self.record.questions["round"], default=0)

    def _open(self, pairs: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
        """The pairs of an image and a property that were not asked about yet."""
        asked = set(_pairs(self.record.questions))
        return [pair for pair in pairs if pair not in asked]

    def _by_key(self) -> pd.DataFrame:
        """Open questions about the first random images, one by one."""
        self._draw(self.config.first)
        firsts = list(self.record.random)[: self.config.by_key]
        pairs = self._open(self._one_by_one(firsts))
        return questions(pairs, page=range(len(pairs)), round=self._round)

    def _random_part(self) -> pd.DataFrame:
        """Pages for the first property with open questions about random images."""
        pairs = self._open(
            (k, prop) for prop in self.config.properties for k in self.record.random
        )
        first = [pair for pair in pairs if pair[1] == pairs[0][1]]
        return self._pages(first, self._round) if first else questions([])

    def _checks(self) -> pd.DataFrame:
        """Questions that ask again, by key, about a random share of the answers on pages."""
        given = self.record.given
        on_pages = _pairs(given[given["how"] == "grid"])
        checked = set(_pairs(given[given["check"]]))
        again = [pair for pair in on_pages if pair not in checked]
        due = round(CHECKED * len(on_pages)) - (len(on_pages) - len(again))
        rng = np.random.default_rng([self.config.seed, self.place])
        pairs = [again[k] for k in rng.permutation(len(again))[: max(0, due)]]
        return questions(pairs, page=range(len(pairs)), how="check", round=self._round)

    def _next_round(self) -> pd.DataFrame:
        """Pages of chosen and random images for the property with the fewest rarer answers."""
        everyone, rarer = range(len(self.images)), self._counts()[["1", "0"]].min(axis=1)
        left = {prop: self._open((k, prop) for k in everyone) for prop in self.config.properties}
        left = {prop: pairs for prop, pairs in left.items() if pairs}
        if not left:
            return questions([])
        prop = min(left, key=rarer.get)
        at_random = round(self.config.per_round * RANDOM_SHARE)
        self._draw(len(self.record.random) + at_random)
        drawn = [pair for pair in left[prop] if pair[0] in self.record.random]
        rest = np.array([k for k, _ in left[prop] if k not in self.record.random], dtype=int)
        count, number = self.config.per_round - at_random, self._round + 1
        rng = np.random.default_rng([self.config.seed, number])
        chosen = asking.next_images(
            self.features, self._labels(prop), rng.permutation(rest), count
        )
        return self._pages(drawn + [(k, prop) for k in chosen.tolist()], number)

    def _pages(self, pairs: list[tuple[int, str]], number: int) -> pd.DataFrame:
        """Deals questions to pages, with predictions, most probable ones first on a page.

        They are dealt at random: what is answered when a person stops remains a fair sample.
        """
        prop, images = pairs[0][1], sorted(k for k, _ in pairs)
        self._scores.pop(prop, None)
        scores = self._guess(prop)[images]
        if np.isnan(scores).any():  # one class has no answers: fill in the commoner
            counts = self._counts().loc[prop]
            scores = np.full(len(images), float(counts["1"] > counts["0"]))
        order = np.random.default_rng([self.config.seed, number]).permutation(len(images))
        pages = -(-len(images) // self.config.page_images)
        asked = questions([(images[k], prop) for k in order], how="grid", round=number)
        asked = asked.assign(page=np.sort(np.arange(len(order)) % pages), score=scores[order])
        return asked.sort_values(["page", "score"], ascending=[True, False], kind="stable")

    def _of(self, prop: str) -> pd.DataFrame:
        """The answers that count of a property."""
        answers = self.record.answers
        return answers[answers["property"] == prop]

    def _labels(self, prop: str) -> np.ndarray:
        """Labels of a property, shape (N,), NaN for images without one."""
        mine, labels = self._of(prop), np.full(len(self.images), np.nan)
        labels[mine["img_no"]] = mine["answer"].map(LABELS)
        return labels

    def _guess(self, prop: str) -> np.ndarray:
        """Probabilities of a 1, shape (N,), from the answers when pages were last planned."""
        if prop not in self._scores:
            self._scores[prop] = asking.guess(self.features, self._labels(prop))
        return self._scores[prop]


def _pairs(asked: pd.DataFrame) -> list[tuple[int, str]]:
    return list(asked[PAIR].itertuples(index=False, name=None))
