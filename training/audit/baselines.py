"""How far one gets without reading the film as a radiologist does: from 32 x 32 pixels, or from no pixel at all.

Every baseline is scored on the folds of the model, each film by a fit that has not seen its patient. A baseline that
is wrong throughout tells the classes apart as well as one that is right: it counts inverted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from models import preprocess
from training.audit import records
from training.audit.subject import Floats, Subject, words
from training.audit.verdict import COLLECTED_APART, LIMITS, NOT_THE_DISEASE, Check, Question, Status
from training.cache import Bytes
from training.figures import evaluate

SIDE = 32
MOST = 20_000
"""Films that one fit sees: 1,024 weights learn nothing more from more of them, and the memory stays flat."""
SEED = 0
FEW = 100
"""Films of fewer than so many can be told apart by chance."""

Model = Callable[[], Any]


def pixels_model() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, class_weight="balanced", max_iter=5000))


def metadata_model() -> Any:
    """Boosted small trees: an image size or an unknown age need not be proportional to anything."""
    return HistGradientBoostingClassifier(
        max_iter=50,
        max_leaf_nodes=8,
        min_samples_leaf=5,
        class_weight="balanced",
        early_stopping=False,
        random_state=SEED,
    )


def thumbnails(pixels: Bytes) -> Bytes:
    """(n, 32 * 32) grey values: all that the pixel baseline sees."""
    small = np.empty((len(pixels), SIDE * SIDE), np.uint8)
    for row, film in zip(small, pixels, strict=True):
        row[:] = np.rint(preprocess.resize(film.astype(np.float32), height=SIDE, width=SIDE)).ravel()
    return small


def held_out(model: Model, features: NDArray[Any], subject: Subject) -> dict[int, Floats]:
    """For each label that can be judged (n,) scores, NaN where no fold holds the row out.

    It learns from the films that the label's figure counts: the plain form of the question that is asked.
    """
    found: dict[int, Floats] = {}
    rng = np.random.default_rng(SEED)
    for k in subject.judged:
        truth, counted = subject.truth(k), subject.manifest.counted[:, k]
        scores = np.full(len(truth), np.nan)
        for train, held in subject.parts:
            rows = train[counted[train]]
            if len(rows) > MOST:
                rows = rng.choice(rows, MOST, replace=False)
            # one thread: on a busy machine the threads of such small fits wait for each other ten times as long
            with threadpool_limits(1):
                fitted = model().fit(features[rows], truth[rows])
                # rounded, so that a fit to nothing gives equal scores in every fold and not the folds' last digits
                scores[held] = np.round(fitted.predict_proba(features[held])[:, 1], 6)
        found[k] = scores
    return found


def aucs(scores: Mapping[int, Floats], subject: Subject) -> dict[str, float]:
    """By label, inverted where below 0.5."""
    found = {}
    for k, column in scores.items():
        rows = subject.rows(k)
        value = evaluate.auc(column[rows], subject.truth(k)[rows])
        found[subject.manifest.labels[k]] = max(value, 1 - value)
    return found


def pixel_check(question: Question, scores: Mapping[int, Floats], subject: Subject) -> Check:
    """The 32 x 32 pixel baseline."""
    said = "32 x 32 grey pixels alone reach"
    return judged(
        "pixel baseline", said, aucs(scores, subject), question=question, limit="pixel_baseline_auc", subject=subject
    )


def metadata_check(question: Question, subject: Subject) -> Check:
    """View, age, sex, image size, file type and source, without any pixel."""
    parts = records.columns(subject)
    values = aucs(held_out(metadata_model, np.hstack(list(parts.values())), subject), subject)
    said = f"Without any pixel, what is known of a film ({', '.join(parts)}) reaches"
    found = judged("metadata baseline", said, values, question=question, limit="metadata_baseline_auc", subject=subject)
    if found.status != "fail":
        return found
    alone = {what: aucs(held_out(metadata_model, table, subject), subject) for what, table in parts.items()}
    worst = max(values, key=lambda name: values[name])
    by_column = sorted(alone, key=lambda what: -alone[what][worst])
    telling = [w for w in by_column if alone[w][worst] >= LIMITS["telling_auc"]] or by_column[:1]
    label = subject.manifest.labels.index(worst)
    lines = [f"{records.contrast(subject, label, what=w)} (AUC {alone[w][worst]:.2f} alone)." for w in telling]
    return Check(found.name, found.status, " ".join([found.text, *map(_sentence, lines)]), found.value)


def separable_check(question: Question, subject: Subject) -> Check:
    """Whether the source alone, or the age group alone, tells a class from the rest."""
    items = subject.manifest.items
    tables = {records.SOURCE: records.columns(subject)[records.SOURCE], records.AGE_GROUP: records.age_groups(items)}
    alone = {what: aucs(held_out(metadata_model, table, subject), subject) for what, table in tables.items()}
    highest = {name: max(alone[what][name] for what in alone) for name in alone[records.SOURCE]}
    spoken = "; ".join(f"the {what} alone reaches {words(values)}" for what, values in alone.items() if values)
    found = judged(
        "class by source or age group",
        f"{_sentence(spoken)}. The higher of the two:",
        highest,
        question=question,
        limit="metadata_baseline_auc",
        subject=subject,
    )
    if found.status == "fail":
        worst = max(highest, key=lambda name: highest[name])
        what = max(alone, key=lambda name: alone[name][worst])
        shown = records.contrast(subject, subject.manifest.labels.index(worst), what=what)
        return Check(found.name, "fail", f"{found.text} {_sentence(shown)}.", found.value)
    if found.status == "pass" and all(item.age is None for item in items):
        return Check(found.name, "warn", f"{found.text} No age is known, so of age this cannot be said.", found.value)
    return found


def judged(
    name: str, said: str, values: Mapping[str, float], *, question: Question, limit: str, subject: Subject
) -> Check:
    """One check of all labels: it fails where one label reaches the limit, and says which."""
    if not values:
        return Check(
            name, "not run", f"Too few films with and without {', '.join(subject.manifest.labels)} in each fold."
        )
    over = {label: value for label, value in values.items() if value >= LIMITS[limit]}
    under = {label: value for label, value in values.items() if label not in over}
    highest = max(values.values())
    status: Status = "reported" if question == "anatomy" else "fail" if over else "warn" if subject.unjudged else "pass"
    if question == "anatomy":
        text = f"{said} {words(values)}. To tell body parts apart that is legitimate."
    elif over:
        why = NOT_THE_DISEASE if limit == "pixel_baseline_auc" else COLLECTED_APART
        text = f"{said} {words(over)}. {why}"
        text += f" Of the other labels: {words(under)}." if under else ""
        fewest = min(len(subject.rows(subject.manifest.labels.index(name))) for name in over)
        text += f" With {fewest} films chance cannot be excluded: see it on more." if fewest < FEW else ""
    else:
        text = f"{said} {words(values)}."
    if subject.unjudged:
        text += f" Too few films to say it of {', '.join(subject.unjudged)}."
    return Check(name, status, text, highest)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
