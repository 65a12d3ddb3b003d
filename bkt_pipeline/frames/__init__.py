"""Knowledge tracing on pandas frames, for notebooks. It uses only the model and pandas: no database and no Dagster.

Every function takes a frame with one row for each graded answer and returns a frame:

- `fit`: the parameters of every skill by each estimator, with intervals.
- `predict`: P(known) and P(right) at every answer.
- `evaluate`: how well each estimator predicts students that it was not fitted to.
- `learning_curve`, `calibration_curve`: observed and predicted success, by opportunity and by prediction.
- `windows`: the same answers as the functions in `bkt_pipeline.model` take them.

The columns are `student_id`, `skill_id`, `is_correct` and, for the order of a student's answers, `created_at` or
`order`; others are mapped by `columns`, as in ``columns={"student_id": "user_id"}``. `windows` describes the values.

Examples
--------
>>> import pandas as pd
>>> from bkt_pipeline import frames
>>> answers = pd.DataFrame({"user": [*"aaabbbccc"], "skill_id": "halves", "is_correct": [0, 1, 1, 0, 0, 1, 1, 1, 1]})
>>> params = frames.fit(answers, estimator="pooled", columns={"student_id": "user"})
>>> params[["p_transit", "p_transit_low", "p_transit_high"]].round(2)
          p_transit  p_transit_low  p_transit_high
skill_id
halves         0.18            0.0            0.79
"""

from bkt_pipeline.frames.attempts import windows
from bkt_pipeline.frames.curves import calibration_curve, learning_curve
from bkt_pipeline.frames.evaluation import evaluate
from bkt_pipeline.frames.fitting import fit
from bkt_pipeline.frames.prediction import predict

__all__ = ["calibration_curve", "evaluate", "fit", "learning_curve", "predict", "windows"]
