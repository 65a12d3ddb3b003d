"""Store the pooled estimate, the held-out scores of each estimator, and the moments behind the school's prior."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

PARAMETERS = ("p_l0", "p_transit", "p_slip", "p_guess", "log_likelihood")
COMPARED = ("grid", "polished", "pooled", "default", "constant")
SCORES = ("log_likelihood", "auc", "rmse")


def upgrade() -> None:
    numbers = [f"pooled_{name}" for name in PARAMETERS]
    numbers += [f"held_out_{name}_{score}" for name in COMPARED for score in SCORES]
    columns = [
        *(sa.Column(name, sa.Double()) for name in numbers),
        *(sa.Column(name, sa.ARRAY(sa.Double())) for name in ("moment_mean", "moment_covariance")),
        *(sa.Column(name, sa.BigInteger()) for name in ("held_out_students", "held_out_attempts")),
    ]
    for column in columns:
        op.add_column("skill_fits", column, schema="bkt_pipeline")
    op.drop_constraint("skill_fits_estimator_known", "skill_fits", schema="bkt_pipeline", type_="check")
    op.create_check_constraint(
        "skill_fits_estimator_known",
        "skill_fits",
        "estimator IN ('grid', 'polished', 'pooled')",
        schema="bkt_pipeline",
    )
    op.add_column("published_params", sa.Column("attempts", sa.BigInteger()), schema="bkt_pipeline")
