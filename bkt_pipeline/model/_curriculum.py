"""The synthetic school's curriculum: (id, name) of its skills."""

_NAMES = """
Counting to 100
Place value: tens and ones
Place value: thousands
Compare whole numbers
Round whole numbers
Add within 100
Add with carrying
Subtract within 100
Subtract with borrowing
Number line
Even and odd
Roman numerals
Times tables to 5
Times tables to 10
Multiply by tens
Multiply two digits
Divide with remainder
Long division
Factors and multiples
Prime numbers
Greatest common factor
Least common multiple
Order of operations
Divisibility rules
Fractions: name
Fractions: compare
Fractions: equivalent
Fractions: simplify
Fractions: add
Fractions: subtract
Fractions: multiply
Fractions: divide
Mixed numbers
Decimals: place value
Decimals: compare
Decimals: add
Decimals: multiply
Decimals: repeating
Fractions to decimals
Percent: of a number
Percent: increase
Percent: discount
Ratios: simplify
Ratios: share
Proportions
Unit rates
Negative numbers: compare
Negative numbers: add
Negative numbers: powers
Negative numbers: multiply
Expressions: evaluate
Expressions: simplify
Expressions: expand
Equations: one step
Equations: two steps
Equations: brackets
Inequalities: one step
Angles: measure
Angles: triangles
Angles: polygons
Area: rectangles
Area: triangles
Perimeter
Volume: boxes
Mean and median
"""


def _slug(name: str) -> str:
    return name.lower().replace(":", "").replace(" ", "-")


CURRICULUM = tuple((_slug(name), name) for name in _NAMES.strip().splitlines())
# No longer taught: its answers still exist, but the skill is not active.
RETIRED = "number-line"
