"""A process that answers as fast as it can: what the tests of several annotators start.

Arguments: address, annotator, first item, number of items. Each item is written to stdout when
its answer is stored, or with a minus when it was there already. It begins at a line on stdin.
"""

import sys
from datetime import UTC, datetime

from fer_pipeline.core.answers import Answer, AnswerStore

STUDY, SAMPLE = "five_class/people", "0123456789abcdef"


def answer_of(annotator: str, item: int) -> Answer:
    """What the process answers to an item."""
    return Answer(
        study=STUDY,
        sample=SAMPLE,
        annotator=annotator,
        item=item,
        face_id=f"{item:016x}",
        answer=("Anger", "unsure")[item % 2],
        milliseconds=item,
        shown_order=item,
        repeat=item % 20 == 19,
        answered_at=datetime.now(UTC),
    )


def main() -> None:
    """Answer until all items are answered."""
    url, annotator, first, count = sys.argv[1:]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    store = AnswerStore(url)
    for item in range(int(first), int(first) + int(count)):
        added = store.add(answer_of(annotator, item))
        sys.stdout.write(f"{item}\n" if added else f"-{item}\n")
        sys.stdout.flush()
    store.close()


if __name__ == "__main__":
    main()
