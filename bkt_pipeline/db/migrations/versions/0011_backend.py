"""The update that a backend makes after every answer, and the school's prior, which a skill without a row gets."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# The same as `model.predict` and `model.update`. An error, rather than NULL, for missing parameters: a NULL state
# would start the student again at the prior.
FUNCTIONS = """
CREATE FUNCTION bkt_pipeline.bkt_predict(
    p_known double precision, p_l0 double precision, p_transit double precision, p_slip double precision,
    p_guess double precision
) RETURNS double precision LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    known double precision := coalesce(p_known, p_l0);
BEGIN
    IF (p_l0 BETWEEN 0 AND 1 AND p_transit BETWEEN 0 AND 1 AND p_slip BETWEEN 0 AND 0.5 AND p_guess BETWEEN 0 AND 0.5
        AND p_slip + p_guess < 1) IS NOT TRUE THEN
        RAISE EXCEPTION 'p_l0 %, p_transit %, p_slip %, p_guess % are not parameters of a skill', p_l0, p_transit, p_slip,
            p_guess
            USING ERRCODE = 'invalid_parameter_value',
                HINT = 'p_l0 and p_transit are in [0, 1], p_slip and p_guess in [0, 0.5], and p_slip + p_guess is below 1.'
                ' bkt_pipeline.current_params has parameters of every active skill.';
    END IF;
    IF NOT known BETWEEN 0 AND 1 THEN
        RAISE EXCEPTION 'p_known is %; it must be a number in [0, 1]', known
            USING ERRCODE = 'invalid_parameter_value', HINT = 'NULL is a student who has not answered the skill yet.';
    END IF;
    RETURN known * (1 - p_slip) + (1 - known) * p_guess;
END $$;

COMMENT ON FUNCTION bkt_pipeline.bkt_predict IS
    'P(right) of the next answer; p_known NULL is a student who has not answered the skill yet';

CREATE FUNCTION bkt_pipeline.bkt_update(
    p_known double precision, "right" boolean, p_l0 double precision, p_transit double precision,
    p_slip double precision, p_guess double precision
) RETURNS double precision LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    lowest CONSTANT double precision := 1e-12;
    highest CONSTANT double precision := 1 - lowest;
    p_right double precision := bkt_pipeline.bkt_predict(p_known, p_l0, p_transit, p_slip, p_guess);
    known double precision := coalesce(p_known, p_l0);
    seen double precision;
BEGIN
    IF known < lowest OR known > highest THEN
        known := CASE WHEN known < lowest THEN lowest ELSE highest END;
        p_right := bkt_pipeline.bkt_predict(known, p_l0, p_transit, p_slip, p_guess);
    END IF;
    IF "right" IS NULL THEN
        RETURN known;
    ELSIF "right" THEN
        seen := known * (1 - p_slip) / p_right;
    ELSE
        seen := known * p_slip / (known * p_slip + (1 - known) * (1 - p_guess));
    END IF;
    RETURN least(greatest(seen + (1 - seen) * p_transit, lowest), highest);
END $$;

COMMENT ON FUNCTION bkt_pipeline.bkt_update IS
    'P(known) after an answer. p_known NULL: the student has not answered the skill yet. right NULL: the answer is not'
    ' graded, and the state stays';
"""


def upgrade() -> None:
    op.execute(FUNCTIONS)
    op.create_table(
        "school_priors",
        sa.Column("night", sa.Date(), primary_key=True),
        sa.Column("as_of", sa.TIMESTAMP(timezone=True), nullable=False),
        *(
            sa.Column(name, sa.Double(), nullable=False)
            for name in ("p_l0", "p_transit", "p_slip", "p_guess")
        ),
        *(sa.Column(name, sa.ARRAY(sa.Double()), nullable=False) for name in ("mean", "covariance")),
        schema="bkt_pipeline",
    )
