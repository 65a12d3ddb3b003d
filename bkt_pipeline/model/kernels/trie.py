"""Turns the students' answers into a tree, and the tree into a program, so that equal endings are processed only once.

The likelihood runs backwards over a sequence (see `surface`), so sequences with the same ending share that work. They
are put into a binary tree, last answer first. The tree is then traversed depth first and written as a flat list of
operations, which every point of the grid repeats. The program depends only on the set of sequences, not on the order of
students, so every later sum is the same to the last bit.
"""

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels.compile import kernel
from bkt_pipeline.model.kernels.surface import EMIT, RESCALE, STEP

Int32s = npt.NDArray[np.int32]


@kernel
def _plant(
    responses: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    child: Int32s,
    count: Int32s,
    student: Int32s,
) -> int:
    used = 1
    child[0, 0] = child[0, 1] = count[0] = 0
    for i in range(offsets.size - 1):
        at = 0
        for j in range(offsets[i + 1] - 1, offsets[i] - 1, -1):
            answer = responses[j]
            follow = int(child[at, answer])
            if follow == 0:
                follow = used
                child[at, answer] = follow
                child[follow, 0] = child[follow, 1] = count[follow] = 0
                used += 1
            at = follow
        if count[at] == 0:
            student[at] = i
        count[at] += 1
    return used


def plant(responses: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> tuple[Int32s, Int32s, Int32s]:
    """The tree of all sequences, last answer first.

    Returns child (n_nodes, 2), where 0 means no child; count (n_nodes,), how many sequences are complete at the node;
    and student (n_nodes,), the first student with that sequence, if there is one.
    """
    room = 1 + responses.size
    # Enough room for sequences that share nothing; memory that is never written is never allocated.
    child, count, student = np.empty((room, 2), np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    used = _plant(responses, offsets, child, count, student)
    return child[:used], count[:used], student[:used]


@kernel
def _walk(
    child: Int32s,
    count: Int32s,
    interval: int,
    pending: Int32s,
    program: Int32s,
    longest: int,
    emit: int,
    rescale: int,
) -> tuple[int, int]:
    """Write as much of the program as fits into `program`; return its full length and how many slots it needs."""
    room = program.shape[0]
    top = 0
    length = 0
    slots = 1
    node = 0
    target = 0
    since = 0
    while True:
        if count[node] > 0:
            if length < room:
                program[length, 0] = emit
                program[length, 1] = target
                program[length, 2] = count[node]
                program[length, 3] = node
            length += 1
        # Answer 0 is processed first, in a separate slot if the state is still needed for answer 1.
        right = child[node, 1]
        for answer in range(1, -1, -1):
            if child[node, answer] > 0:
                own = target + 1 if answer == 0 and right > 0 else target
                slots = max(slots, own + 1)
                pending[top, 0] = node
                pending[top, 1] = answer
                pending[top, 2] = target
                pending[top, 3] = own
                pending[top, 4] = since
                top += 1
        if top == 0:
            return length, slots
        top -= 1
        node = int(pending[top, 0])
        answer = int(pending[top, 1])
        source = int(pending[top, 2])
        target = int(pending[top, 3])
        since = int(pending[top, 4])
        more = True
        while more:
            code = 1
            answers = 0
            while more and answers < longest:
                node = int(child[node, answer])
                code = 2 * code + answer
                answers += 1
                more = count[node] == 0 and (child[node, 0] == 0) != (child[node, 1] == 0)
                answer = 0 if child[node, 0] > 0 else 1
            if length < room:
                program[length, 0] = code
                program[length, 1] = source
                program[length, 2] = target
            length += 1
            source = target
            since += answers
            if since >= interval:
                if length < room:
                    program[length, 0] = rescale
                    program[length, 1] = target
                    program[length, 2] = 0
                length += 1
                since = 0


def compose(child: Int32s, count: Int32s, interval: int) -> tuple[Int32s, int]:
    """The program of a tree: rows (operation, slot, argument, node), and the number of slots for states.

    A step (code >= 2) goes from slot to slot. EMIT has the node of a complete sequence and how often it occurs. RESCALE
    comes after at most `interval` + STEP - 1 answers of a path.
    """
    pending = np.empty((count.size + 1, 5), np.int32)
    length, slots = _walk(child, count, interval, pending, np.empty((0, 4), np.int32), STEP, EMIT, RESCALE)
    program = np.empty((length, 4), np.int32)
    _walk(child, count, interval, pending, program, STEP, EMIT, RESCALE)
    return program, slots
