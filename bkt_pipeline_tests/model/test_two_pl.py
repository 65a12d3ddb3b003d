"""The item fit against scipy, against exhaustive search, against simulated truth, and on hostile answers."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize

from bkt_pipeline.errors import InvalidAttempts, InvalidSettings
from bkt_pipeline.model.irt.curve import probability
from bkt_pipeline.model.irt.fits import ItemFlag, ItemStatus
from bkt_pipeline.model.irt.prior import SHIPPED_ITEM_PRIOR, ItemPrior
from bkt_pipeline.model.irt.two_pl import A_BOUNDS, B_BOUNDS, fit_item, fit_items
from bkt_pipeline.model.kernels import newton

# Off centre and correlated, and wide enough that optima reach the bounds.
WIDE = ItemPrior(0.2, -0.5, 2.0, 0.9, 9.0)
KINDS = {"shipped": {}, "wide": {"prior": WIDE}, "ml": {"method": "ml"}}


def numbers(prior):
    return (prior.mean_log_a, prior.mean_b, *prior.precision)


PRIORS = {"shipped": numbers(SHIPPED_ITEM_PRIOR), "wide": numbers(WIDE), "ml": (0.0,) * 5}
ML = PRIORS["ml"]


def objective(theta, responses, a, b, prior):
    """What the fit maximises, from the definition; a and b may be arrays."""
    a, b = np.asarray(a, float)[..., None], np.asarray(b, float)[..., None]
    z = np.where(np.asarray(responses) == 1, 1.0, -1.0) * a * (np.asarray(theta) - b)
    mean_log_a, mean_b, aa, ab, bb = prior
    x, y = (np.log(a) - mean_log_a)[..., 0], (b - mean_b)[..., 0]
    return -np.logaddexp(0, -z).sum(-1) - 0.5 * (aa * x * x + 2 * ab * x * y + bb * y * y)


def gradient(theta, responses, a, b, prior):
    mean_log_a, mean_b, aa, ab, bb = prior
    x, y = math.log(a) - mean_log_a, b - mean_b
    residual = np.asarray(responses, float) - probability(theta, a, b)
    return np.array(
        [
            residual @ (theta - b) - (aa * x + ab * y) / a,
            -a * residual.sum() - (ab * x + bb * y),
        ]
    )


def scipy_fit(theta, responses, prior):
    """L-BFGS-B from several starts, then from its best point three times more: alone it stops some 1e-5 short."""

    def climb(start, **options):
        return optimize.minimize(
            lambda x: (
                -objective(theta, responses, x[0], x[1], prior),
                -gradient(theta, responses, x[0], x[1], prior),
            ),
            start,
            jac=True,
            bounds=[A_BOUNDS, B_BOUNDS],
            method="L-BFGS-B",
            options=options,
        )

    starts = [(1.0, 0.0), (0.6, -2.0), (0.6, 2.0), (2.5, -1.0), (2.5, 1.0)]
    point = min((climb(start) for start in starts), key=lambda found: found.fun).x
    for _ in range(3):
        point = climb(point, ftol=0.0, gtol=1e-12, maxiter=1000).x
    return point


def simulate(rng, a, b, n, theta_sd=1.0):
    """Answers of n students to each item: theta, responses, offsets."""
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    theta = rng.normal(0, theta_sd, (a.size, n)).clip(-3, 3)
    responses = rng.random((a.size, n)) < probability(theta, a[:, None], b[:, None])
    return theta.ravel(), responses.ravel().astype(np.uint8), np.arange(a.size + 1) * n


def draw_items(rng, n_items):
    """The items of the recovery study: log a ~ N(0.35, 0.25), b ~ N(0, 1) within (-2, 2)."""
    b = rng.normal(0, 1, 2 * n_items)
    return np.exp(rng.normal(0.35, 0.25, n_items)).clip(*A_BOUNDS), b[abs(b) < 2][:n_items]


def mixed_items():
    """Items of many kinds with right and wrong answers, so that optima lie inside, on each edge and in the corners."""
    rng = np.random.default_rng(1)
    a = np.concatenate(
        [np.exp(rng.normal(0, 0.5, 40)), np.full(15, 9.0), np.full(15, 0.03), np.full(10, -1.0)]
    )
    b = np.concatenate([rng.normal(0, 1, 40), rng.uniform(-2, 2, 25), rng.uniform(-9, 9, 15)])
    theta, responses, offsets = simulate(rng, a, b, 120)
    responses[offsets[:-1]], responses[offsets[:-1] + 1] = 0, 1
    return theta, responses, offsets


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_scipy_inside_and_on_every_bound(kind):
    theta, responses, offsets = mixed_items()
    fits = fit_items(theta, responses, offsets, **KINDS[kind])
    for i in range(0, len(fits), 2):
        mine = slice(offsets[i], offsets[i + 1])
        a, b = scipy_fit(theta[mine], responses[mine], PRIORS[kind])
        assert (fits.irt_a[i], fits.irt_b[i]) == pytest.approx((a, b), abs=1e-6), i
    assert not np.any(fits.flags & ItemFlag.NOT_CONVERGED)
    inside = (fits.flags & (ItemFlag.AT_BOUND_A | ItemFlag.AT_BOUND_B)) == 0
    assert inside.sum() >= 25
    met = {*fits.irt_a[~inside], *fits.irt_b[~inside]}
    assert met >= {"shipped": set(), "wide": {A_BOUNDS[0]}, "ml": {*A_BOUNDS, *B_BOUNDS}}[kind]


def test_a_bound_gets_the_best_point_on_it_not_a_clipped_one():
    theta, responses, _ = simulate(np.random.default_rng(3), 0.1, 1.0, 300)
    fit = fit_item(theta, responses, method="ml")
    free = optimize.minimize(
        lambda x: -objective(theta, responses, *x, ML), (0.3, 0.5), bounds=[(0.01, 3), (-9, 9)]
    ).x
    edge = A_BOUNDS[0]
    on_face = optimize.minimize_scalar(lambda b: -objective(theta, responses, edge, b, ML), bounds=B_BOUNDS).x
    assert free[0] < edge
    assert abs(np.clip(free[1], *B_BOUNDS) - on_face) > 0.05
    assert fit.irt_a == edge
    assert fit.irt_b == pytest.approx(on_face, abs=1e-4)


@st.composite
def items(draw, max_answers=40):
    """One item, from the plain to the absurd: few answers, equal or far thetas, answers against the ability. It has
    right and wrong answers."""
    n = draw(st.integers(2, max_answers))
    spot = st.floats(-100, 100) if draw(st.booleans()) else st.floats(-3, 3)
    few = draw(st.lists(spot, min_size=1, max_size=3))
    theta = draw(st.lists(st.sampled_from(few) if draw(st.booleans()) else spot, min_size=n, max_size=n))
    responses = [0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))]
    return np.array(theta), np.array(responses, np.uint8)


@settings(deadline=None, max_examples=150)
@given(items(), st.sampled_from([*KINDS]))
# Abilities so near to 0 that the curvature in a is all but lost in the doubles.
@example((np.full(30, 3e-157), np.array([0] * 29 + [1], np.uint8)), "ml")
def test_no_point_of_the_box_is_better(item, kind):
    theta, responses = item
    fit = fit_item(theta, responses, **KINDS[kind], min_answers=1)
    assert A_BOUNDS[0] <= fit.irt_a <= A_BOUNDS[1]
    assert B_BOUNDS[0] <= fit.irt_b <= B_BOUNDS[1]
    a, b = np.meshgrid(np.linspace(*A_BOUNDS, 41), np.linspace(*B_BOUNDS, 61))
    best = objective(theta, responses, a, b, PRIORS[kind]).max()
    reached = float(objective(theta, responses, fit.irt_a, fit.irt_b, PRIORS[kind]))
    assert reached >= best - 1e-9 * (1 + abs(best))
    assert fit.log_likelihood == pytest.approx(
        float(objective(theta, responses, fit.irt_a, fit.irt_b, ML)), rel=1e-9, abs=1e-9
    )
    assert fit.log_likelihood <= 0
    assert ItemFlag.NOT_CONVERGED not in fit.flags
    assert not fit.se_a <= 0
    assert not fit.se_b <= 0
    assert not math.isinf(fit.se_a)
    assert not math.isinf(fit.se_b)


@settings(deadline=None, max_examples=60)
@given(items(), st.sampled_from(A_BOUNDS), st.sampled_from(B_BOUNDS), st.sampled_from(["shipped", "wide"]))
# A full step goes from one corner to the other here, which is just as good, and back.
@example((np.repeat([-0.5, 0.5], 5), np.array([1, 0] * 5, np.uint8)), A_BOUNDS[1], B_BOUNDS[0], "shipped")
def test_every_start_ends_at_the_same_optimum_and_none_gets_worse(item, a, b, kind):
    theta, responses = item
    prior = PRIORS[kind]
    box = (*A_BOUNDS, *B_BOUNDS)
    start = newton.evaluate(theta, responses, a, -a * b, prior)[0]
    far_a, far_b, far, converged = newton.maximise(theta, responses, a, b, box, prior)
    usual_a, usual_b, usual, _ = newton.maximise(theta, responses, 1.0, 0.0, box, prior)
    assert converged
    assert far[0] >= start - 1e-9 * (1 + abs(start))
    assert far[0] == pytest.approx(usual[0], abs=1e-9)
    assert (far_a, far_b) == pytest.approx((usual_a, usual_b), abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(items(), st.floats(0.55, 2.9), st.floats(-2.9, 2.9), st.sampled_from([*PRIORS.values()]))
def test_derivatives_match_finite_differences(item, a, b, prior):
    theta, responses = item
    theta = theta / max(1.0, np.abs(theta).max() / 3)
    c = -a * b
    h = 1e-5
    at = newton.evaluate(theta, responses, a, c, prior)
    by_a = [newton.evaluate(theta, responses, a + s, c, prior) for s in (-h, h)]
    by_c = [newton.evaluate(theta, responses, a, c + s, prior) for s in (-h, h)]
    numeric = [
        (by_a[1][0] - by_a[0][0]) / (2 * h),
        (by_c[1][0] - by_c[0][0]) / (2 * h),
        (by_a[1][2] - by_a[0][2]) / (2 * h),
        (by_a[1][3] - by_a[0][3]) / (2 * h),
        (by_c[1][3] - by_c[0][3]) / (2 * h),
    ]
    assert at[2:] == pytest.approx(numeric, rel=1e-5, abs=1e-5)
    assert at[0] == pytest.approx(float(objective(theta, responses, a, b, prior)), rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(items(), st.randoms(use_true_random=False))
def test_the_order_of_answers_does_not_matter(item, random):
    theta, responses = item
    order = list(range(theta.size))
    random.shuffle(order)
    one, other = (fit_item(theta[o], responses[o], min_answers=1) for o in (slice(None), order))
    assert (one.irt_a, one.irt_b) == pytest.approx((other.irt_a, other.irt_b), abs=1e-6)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-6, abs=1e-6)
    assert one.status == other.status


def values(fits):
    return np.column_stack(
        [fits.irt_a, fits.irt_b, fits.se_a, fits.se_b, fits.log_likelihood, fits.n_attempts, fits.flags]
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(items(10), min_size=1, max_size=6), st.data())
def test_neighbours_never_change_a_bit_of_an_item(group, data):
    nan = (np.full(3, np.nan), np.ones(3, np.uint8))
    wrong = (np.zeros(3), np.array([0, 7, 1], np.uint8))
    empty = (np.empty(0), np.empty(0, np.uint8))
    group = data.draw(st.permutations([*group, nan, wrong, empty]))
    together = fit_items(
        np.concatenate([theta for theta, _ in group]),
        np.concatenate([responses for _, responses in group]),
        np.cumsum([0, *(theta.size for theta, _ in group)]),
        min_answers=1,
    )
    for i, (theta, responses) in enumerate(group):
        alone = fit_items(theta, responses, [0, theta.size], min_answers=1)
        np.testing.assert_array_equal(values(together)[i], values(alone)[0])
        assert together.status[i] == alone.status[0]


@pytest.mark.parametrize("kind", KINDS)
def test_standard_errors_are_the_inverse_curvature_by_a_and_b(kind):
    theta, responses, offsets = mixed_items()
    fits = fit_items(theta, responses, offsets, **KINDS[kind])
    kinds = set()
    for i in range(len(fits)):
        mine = slice(offsets[i], offsets[i + 1])

        def slope(a, b, mine=mine):
            return gradient(theta[mine], responses[mine], a, b, PRIORS[kind])

        fit, h = fits[i], 1e-5
        by_a = (slope(fit.irt_a + h, fit.irt_b) - slope(fit.irt_a - h, fit.irt_b)) / (2 * h)
        by_b = (slope(fit.irt_a, fit.irt_b + h) - slope(fit.irt_a, fit.irt_b - h)) / (2 * h)
        observed = -np.array([by_a, by_b])
        kinds.add(bound := (ItemFlag.AT_BOUND_A in fit.flags, ItemFlag.AT_BOUND_B in fit.flags))
        expected = {
            (False, False): np.sqrt(np.diag(np.linalg.inv(observed))),
            (True, False): [np.nan, observed[1, 1] ** -0.5],
            (False, True): [observed[0, 0] ** -0.5, np.nan],
            (True, True): [np.nan, np.nan],
        }[bound]
        assert (fit.se_a, fit.se_b) == pytest.approx(expected, rel=1e-5, nan_ok=True), i
    assert len(kinds) >= (2 if kind == "shipped" else 3)


def test_standard_errors_cover_the_truth():
    rng = np.random.default_rng(11)
    a, b = np.exp(rng.normal(0, 0.3, 800)).clip(0.7, 2.5), rng.normal(0, 0.8, 800).clip(-2, 2)
    fits = fit_items(*simulate(rng, a, b, 500), method="ml")
    assert np.mean(abs(fits.irt_a - a) < 1.96 * fits.se_a) == pytest.approx(0.95, abs=0.03)
    assert np.mean(abs(fits.irt_b - b) < 1.96 * fits.se_b) == pytest.approx(0.95, abs=0.03)


# Answers, method, and the highest root mean square error of a and of b, to two digits.
@pytest.mark.parametrize(
    ("n", "method", "of_a", "of_b"),
    [(50, "ml", 0.64, 0.46), (50, "map", 0.37, 0.31), (200, "map", 0.28, 0.20), (1000, "map", 0.13, 0.09)],
)
def test_recovers_simulated_items(n, method, of_a, of_b):
    rng = np.random.default_rng(2024)
    a, b = draw_items(rng, 3000)
    fits = fit_items(*simulate(rng, a, b, n), method=method)
    assert np.sqrt(np.mean((fits.irt_a - a) ** 2)) <= of_a + 0.005
    assert np.sqrt(np.mean((fits.irt_b - b) ** 2)) <= of_b + 0.005


def test_tiers_skip_below_50_and_calibrate_from_200():
    sizes = [0, 1, 49, 50, 199, 200]
    rng = np.random.default_rng(5)
    theta = rng.normal(size=sum(sizes))
    fits = fit_items(theta, rng.random(theta.size) < probability(theta, 1, 0), np.cumsum([0, *sizes]))
    assert fits.status.tolist() == ["skipped"] * 3 + ["provisional"] * 2 + ["calibrated"]
    assert fits.n_attempts.tolist() == sizes
    assert np.isnan(values(fits)[:3, :5]).all()
    assert np.isfinite(values(fits)[3:]).all()


def test_flags_say_what_the_answers_are():
    theta = np.linspace(-2, 2, 60)
    right, wrong, half = np.ones(60, int), np.zeros(60, int), np.arange(60) % 2
    assert fit_item(theta, right).flags & ItemFlag.ALL_RIGHT
    assert fit_item(theta, wrong).flags & ItemFlag.ALL_WRONG
    assert fit_item(theta / 10, half).flags & ItemFlag.LOW_SPREAD
    assert not fit_item(theta, half).flags & (ItemFlag.LOW_SPREAD | ItemFlag.ALL_RIGHT | ItemFlag.ALL_WRONG)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("answer", "flag"), [(1, ItemFlag.ALL_RIGHT), (0, ItemFlag.ALL_WRONG)])
def test_an_item_that_everybody_got_right_or_wrong_gets_no_parameters(answer, flag, kind):
    fit = fit_item(np.linspace(-2, 2, 300), np.full(300, answer), **KINDS[kind])
    assert (fit.status, fit.flags, fit.n_attempts) == (ItemStatus.SKIPPED, flag, 300)
    assert np.isnan([fit.irt_a, fit.irt_b, fit.se_a, fit.se_b, fit.log_likelihood]).all()


@pytest.mark.parametrize("theta", [0.0, 0.1, 1 / 3, 0.7, -1.1, 2.9])
def test_equal_thetas_leave_maximum_likelihood_without_standard_errors(theta):
    fit = fit_item(np.full(60, theta), np.arange(60) % 2, method="ml")
    assert fit.log_likelihood == pytest.approx(60 * math.log(0.5))
    assert math.isnan(fit.se_a)
    assert math.isnan(fit.se_b)
    assert fit.flags == ItemFlag.LOW_SPREAD


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300, 101.0])
def test_a_theta_that_is_none_makes_its_item_invalid(bad):
    theta = np.linspace(-2, 2, 60)
    theta[7] = bad
    fit = fit_item(theta, np.arange(60) % 2)
    assert (fit.status, fit.flags) == (ItemStatus.INVALID, ItemFlag.BAD_THETA)
    assert math.isnan(fit.irt_a)
    assert math.isnan(fit.log_likelihood)


@pytest.mark.parametrize("bad", [2, -1, 255, 256, 257, 2**40])
def test_a_response_that_is_no_0_or_1_makes_its_item_invalid(bad):
    responses = np.arange(60) % 2
    responses[7] = bad
    fit = fit_item(np.linspace(-2, 2, 60), responses)
    assert (fit.status, fit.flags) == (ItemStatus.INVALID, ItemFlag.BAD_RESPONSE)


@pytest.mark.parametrize(
    ("theta", "responses", "offsets", "says"),
    [
        ([0.0, 1.0], [1], [0, 2], r"theta has shape \(2,\), responses \(1,\)"),
        ([[0.0, 1.0]], [[1, 0]], [0, 2], "n_answers"),
        (["low", "high"], [1, 0], [0, 2], "not an array of numbers"),
        ([0.0, 1.0], [1.0, 0.0], [0, 2], "dtype float64"),
        ([0.0, 1.0], [1, 0], [], "offsets have shape"),
        ([0.0, 1.0], [1, 0], [0.0, 2.0], "dtype float64"),
        ([0.0, 1.0], [1, 0], [1, 2], "from 1 to 2 over 2 answers"),
        ([0.0, 1.0], [1, 0], [0, 1], "from 0 to 1 over 2 answers"),
        ([0.0, 1.0], [1, 0], [0, 2, 1, 2], "never fall"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(theta, responses, offsets, says):
    with pytest.raises(InvalidAttempts, match=says):
        fit_items(theta, responses, offsets)


@pytest.mark.parametrize(
    "setting",
    [
        {"method": "mle"},
        {"min_answers": 0},
        {"min_answers": 300},
    ],
)
def test_settings_nobody_can_mean_are_refused(setting):
    with pytest.raises(InvalidSettings, match=next(iter(setting))):
        fit_item([0.0], [1], **setting)


def test_no_items_and_no_answers():
    assert len(fit_items([], [], [0])) == 0
    assert fit_items([], [], [0, 0]).status.tolist() == ["skipped"]


def test_a_prior_draws_towards_its_mean_and_a_wider_one_less():
    theta, responses, _ = simulate(np.random.default_rng(8), 2.5, 1.5, 60)
    ml = fit_item(theta, responses, method="ml")
    wide = fit_item(theta, responses, prior=ItemPrior(0, 0, 1e6, 0, 1e6))
    narrow = fit_item(theta, responses, prior=ItemPrior(math.log(0.5), -1, 1e-4, 0, 1e-4))
    assert (wide.irt_a, wide.irt_b) == pytest.approx((ml.irt_a, ml.irt_b), abs=1e-4)
    assert (narrow.irt_a, narrow.irt_b) == pytest.approx((0.5, -1), abs=0.02)
