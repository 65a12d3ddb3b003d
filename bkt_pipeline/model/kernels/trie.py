"""Turns the students' answers into a tree, and the tree into a program, so that equal endings are processed only once.

The likelihood runs backwards over a sequence (see `surface`), so sequences with the same ending share that work. They
are put into a binary tree, last answer first. The tree is then traversed depth first and written as a flat list of
operations, which every point of the grid repeats. The program depends only on the set of sequences, not on the order of
students, so every later sum is the same to the last bit.
"""

import math

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels import surface as operations
from bkt_pipeline.model.kernels.compile import inlined, kernel

# Nats by which a product of terms may rise or fall before its exponent is taken out; a double has 708.
_PRODUCT_NATS = 600.0
# Nats by which a state may fall between two checks of its exponents, and by which it may fall if its term is multiplied
# without an exponent of its own.
_STATE_NATS = 207.0
_PLAIN_NATS = 100.0
_CODES = np.array(
    [
        operations.STEP_FAR,
        operations.PUT,
        operations.PUT_SCALED,
        operations.SCALE,
        operations.MULTIPLY,
        operations.NORMALISE,
        operations.RESCALE,
    ]
)

Bytes = npt.NDArray[np.uint8]
Int32s = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@kernel
def _plant(
    responses: Bytes,
    offsets: Ints,
    sides: Bytes,
    child: Int32s,
    count: Int32s,
    student: Int32s,
    ends: Int32s,
    pending: Int32s,
) -> tuple[int, int]:
    """Fill the tree, whose root is there already; return how many nodes it has and how many complete a sequence."""
    used = 1
    last_side = count.shape[1] - 1
    for i in range(offsets.size - 1):
        at = 0
        for j in range(offsets[i + 1] - 1, offsets[i] - 1, -1):
            answer = responses[j]
            follow = int(child[at, answer])
            if follow == 0:
                follow = used
                child[at, answer] = follow
                child[follow, 0] = child[follow, 1] = count[follow, 0] = count[follow, last_side] = 0
                used += 1
            at = follow
        if count[at, 0] + count[at, last_side] == 0:
            student[at] = i
        count[at, sides[i]] += 1
    # Depth first, which depends on the sequences alone.
    pending[0] = 0
    top = 1
    found = 0
    while top > 0:
        top -= 1
        node = int(pending[top])
        if count[node, 0] + count[node, last_side] > 0:
            ends[found] = node
            found += 1
        for answer in range(1, -1, -1):
            if child[node, answer] > 0:
                pending[top] = child[node, answer]
                top += 1
    return used, found


def plant(
    responses: Bytes, offsets: Ints, sides: Bytes, n_sides: int
) -> tuple[Int32s, Int32s, Int32s, Int32s]:
    """The tree of all sequences, last answer first. Student i belongs to group sides[i]; there are one or two groups.

    Returns child (n_nodes, 2), where 0 means no child; count (n_nodes, n_sides), how many sequences of each group are
    complete at the node; the nodes at which any is complete, depth first; and for each of them, a student with that
    sequence.
    """
    room = 1 + responses.size
    # Enough room for sequences that share nothing; memory that is never written is never allocated.
    child, count = np.empty((room, 2), np.int32), np.empty((room, n_sides), np.int32)
    student, pending, ends = (np.empty(size, np.int32) for size in (room, room + 1, sides.size))
    child[0] = 0
    count[0] = 0
    used, found = _plant(responses, offsets, sides, child, count, student, ends, pending)
    return child[:used], count[:used], ends[:found], student[ends[:found]]


@inlined
def _write(rows: Int32s, at: int, one: int, two: int, three: int, four: int) -> int:
    rows[at, 0] = one
    rows[at, 1] = two
    rows[at, 2] = three
    rows[at, 3] = four
    return at + 1


@kernel
def _walk(
    child: Int32s,
    count: Int32s,
    digits: int,
    interval: int,
    plain: int,
    nats: Floats,
    group: int,
    longest: int,
    codes: Ints,
    waiting: Ints,
    fresh: Floats,
    spent: Floats,
    pending: Int32s,
    program: Int32s,
) -> tuple[int, int]:
    """Write the program; return its length and how many slots it needs.

    waiting, fresh and spent have a value for each digit of each side, 0 at first: how many terms wait, and the nats of
    these terms and of the product.
    """
    sides = count.shape[1]
    # The last terms of each digit must fill a group, so the first one starts with what is missing.
    for node in range(count.shape[0]):
        for side in range(sides):
            for k in range(digits):
                own = side * digits + k
                waiting[own] = (waiting[own] - ((count[node, side] >> k) & 1)) % group
    top = 0
    length = 0
    slots = 1
    node = 0
    target = 0  # each target has two slots, because a step never writes into the slot that it reads
    slot = 0
    since = 0
    depth = 0
    far = 0
    while True:
        scaled = 1 if depth > plain else far
        for side in range(sides):
            times = int(count[node, side])
            if times > 0 and scaled:
                length = _write(program, length, codes[3], slot, 2 * side + far, times)
            for k in range(digits):
                if (times >> k) & 1:
                    own = side * digits + k
                    length = _write(program, length, codes[1 + scaled], slot, own, waiting[own])
                    waiting[own] += 1
                    fresh[own] += nats[1] if scaled else max(nats[0] * depth, nats[2])
                    if waiting[own] == group:
                        if spent[own] + fresh[own] > nats[3]:
                            length = _write(program, length, codes[5], 0, own, 0)
                            spent[own] = 0.0
                        length = _write(program, length, codes[4], 0, own, 0)
                        spent[own] += fresh[own]
                        fresh[own] = 0.0
                        waiting[own] = 0
        # Answer 0 is processed first, in separate slots if the state is still needed for answer 1.
        right = child[node, 1]
        for answer in range(1, -1, -1):
            if child[node, answer] > 0:
                _write(pending, top, node, answer, slot, target + 1 if answer == 0 and right > 0 else target)
                pending[top, 4] = since
                pending[top, 5] = depth
                pending[top, 6] = far
                top += 1
        if top == 0:
            for side in range(sides):
                length = _write(program, length, codes[5], 0, (side + 1) * digits - 1, 0)
            return length, 2 * slots
        top -= 1
        node = int(pending[top, 0])
        answer = int(pending[top, 1])
        slot = int(pending[top, 2])
        target = int(pending[top, 3])
        since = int(pending[top, 4])
        depth = int(pending[top, 5])
        far = int(pending[top, 6])
        slots = max(slots, target + 1)
        more = True
        while more:
            code = 1
            answers = 0
            while more and answers < longest:
                node = int(child[node, answer])
                code = 2 * code + answer
                answers += 1
                more = count[node, 0] + count[node, sides - 1] == 0
                more &= (child[node, 0] == 0) != (child[node, 1] == 0)
                answer = 0 if child[node, 0] > 0 else 1
            to = 2 * target + (1 - slot % 2 if slot // 2 == target else 0)
            length = _write(program, length, code + far * codes[0], slot, to, 0)
            slot = to
            since += answers
            depth += answers
            if since >= interval:
                length = _write(program, length, codes[6], slot, 1 - far, 0)
                since = 0
                far = 1


def compose(
    child: Int32s, count: Int32s, counts: Int32s, least: float, odds: Floats
) -> tuple[Int32s, int, int]:
    """The program of a tree (rows of an operation and three arguments), how many slots it needs, and binary digits.

    Parameters
    ----------
    child, count
        From `plant`.
    counts : int32 (n_ends, n_sides)
        The counts of the nodes that complete a sequence.
    least : float
        The least probability of an answer in a state.
    odds : float64 (n_prior,)
        p_l0 / (1 - p_l0).

    A step (a code from 2 on: the bits of up to STEP answers after a leading 1) reads a slot and writes another one. PUT
    adds the term of a complete sequence to those that wait for MULTIPLY; if the sequence is so long that the product of
    four terms might underflow, SCALE and PUT_SCALED do. RESCALE and NORMALISE take out exponents before a state or a
    product might underflow; a state has exponents from the first RESCALE on.
    """
    sides = count.shape[1]
    digits = int(counts.max()).bit_length()
    least_nats = -math.log(least)
    # In Python, because numpy is slow with so few numbers.
    each = odds.tolist()
    lowest, highest = min(each), max(each)
    # Of an answer, of a scaled term (a sum of two masses, the larger one in [1, 2)), of a term's rise, and of a product.
    nats = np.array(
        [
            least_nats,
            max(-math.log(min(lowest, 1.0)), math.log(2.0 * (1.0 + highest))),
            math.log(1.0 + highest),
            _PRODUCT_NATS,
        ]
    )
    # A term is put once for each binary digit, and each MULTIPLY, with or without NORMALISE, is that of a PUT.
    room = 2 * len(count) + 4 * counts.size * digits + sides
    program = np.empty((room, 4), np.int32)
    length, slots = _walk(
        child,
        count,
        digits,
        int(_STATE_NATS / least_nats) - operations.STEP,
        int(_PLAIN_NATS / least_nats),
        nats,
        operations.GROUP,
        operations.STEP,
        _CODES,
        np.zeros(sides * digits, np.int64),
        np.zeros(sides * digits),
        np.zeros(sides * digits),
        np.empty((len(count) + 1, 7), np.int32),
        program,
    )
    return program[:length], slots, digits
