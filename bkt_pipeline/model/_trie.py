"""Equal sequences and equal endings are worked on once: students' answers as a tree, the tree as a program.

The likelihood runs backwards over a sequence (see `_surface`), so sequences that end alike share that work.
They are put into a binary tree, last answer first; the tree is then walked depth first and written down as a
flat list of operations that every point of the grid repeats. The program depends on the set of sequences
only, not on the order of students: that makes every later sum the same to the last bit.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

# A step covers up to this many answers at once: what a pattern of answers does to the state is one linear
# map.
STEP = 4
# Operations of a program. Codes from 2 on are steps: the pattern's answers behind a leading one.
RESCALE = 0
EMIT = 1

Int32s = npt.NDArray[np.int32]


@njit(cache=True, nogil=True)
def plant(responses: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> tuple[Int32s, Int32s, Int32s]:
    """The tree of all sequences, last answer first.

    Returns child (n_nodes, 2), 0 for none; count (n_nodes,), how many sequences are complete at the node; and
    student (n_nodes,), the first one whose sequence that is.
    """
    nodes = 1 + responses.size
    child = np.zeros((nodes, 2), np.int32)
    count = np.zeros(nodes, np.int32)
    student = np.zeros(nodes, np.int32)
    used = 1
    for i in range(offsets.size - 1):
        at = 0
        for j in range(offsets[i + 1] - 1, offsets[i] - 1, -1):
            answer = responses[j]
            follow = child[at, answer]
            if follow == 0:
                follow = used
                child[at, answer] = used
                used += 1
            at = follow
        if count[at] == 0:
            student[at] = i
        count[at] += 1
    return child[:used].copy(), count[:used].copy(), student[:used].copy()


@njit(cache=True, nogil=True)
def _put(program: Int32s, row: int, operation: int, slot: int, argument: int) -> None:
    if row < program.shape[0]:
        program[row, 0] = operation
        program[row, 1] = slot
        program[row, 2] = argument


@njit(cache=True, nogil=True)
def _push(pending: Int32s, row: int, node: int, answer: int, source: int, target: int, since: int) -> None:
    pending[row, 0] = node
    pending[row, 1] = answer
    pending[row, 2] = source
    pending[row, 3] = target
    pending[row, 4] = since


@njit(cache=True, nogil=True)
def _walk(child: Int32s, count: Int32s, interval: int, program: Int32s) -> tuple[int, int]:
    """Write the program as far as `program` has room. Returns its full length and how many slots it needs."""
    pending = np.empty((child.shape[0] + 1, 5), np.int32)
    top = 0
    length = 0
    slots = 1
    node = 0
    target = 0
    since = 0
    while True:
        if count[node] > 0:
            _put(program, length, EMIT, target, count[node])
            length += 1
        # Answer 0 is walked first, in a slot of its own where the state is still needed for answer 1.
        left = child[node, 0]
        right = child[node, 1]
        if right > 0:
            _push(pending, top, right, 1, target, target, since)
            top += 1
        if left > 0:
            own = target + 1 if right > 0 else target
            slots = max(slots, own + 1)
            _push(pending, top, left, 0, target, own, since)
            top += 1
        if top == 0:
            return length, slots
        top -= 1
        node, answer, source, target, since = (
            pending[top, 0],
            pending[top, 1],
            pending[top, 2],
            pending[top, 3],
            pending[top, 4],
        )
        while True:
            code = 2 + answer
            answers = 1
            more = True
            while True:
                more = count[node] == 0 and (child[node, 0] == 0) != (child[node, 1] == 0)
                if not more or answers == STEP:
                    break
                answer = 0 if child[node, 0] > 0 else 1
                node = child[node, answer]
                code = 2 * code + answer
                answers += 1
            _put(program, length, code, source, target)
            length += 1
            source = target
            since += answers
            if since >= interval:
                _put(program, length, RESCALE, target, 0)
                length += 1
                since = 0
            if not more:
                break
            answer = 0 if child[node, 0] > 0 else 1
            node = child[node, answer]


@njit(cache=True, nogil=True)
def compose(child: Int32s, count: Int32s, interval: int) -> tuple[Int32s, int]:
    """The program of a tree: rows (operation, slot, argument), and the number of slots for states.

    A step (code >= 2) goes from slot to slot; EMIT says how often the sequence that ends in a slot occurs;
    RESCALE comes at the latest after `interval` + STEP - 1 answers of a path.
    """
    length, slots = _walk(child, count, interval, np.empty((0, 3), np.int32))
    program = np.empty((length, 3), np.int32)
    _walk(child, count, interval, program)
    return program, slots
