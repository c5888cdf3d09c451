//! Chance: numbers of requests as a simulation draws them. The seed is the caller's.

/// Up to this mean a number is drawn event by event; beyond it, chance is a hundredth of the mean, and a normal one.
const EXACT: f64 = 8000.0;

/// A number with the Poisson distribution of a mean: Knuth's product, of parts, so that no factor is too small for a float.
pub fn poisson(chance: &mut fastrand::Rng, mean: f64) -> f64 {
    const PART: f64 = 400.0;
    let mut rest = mean.max(0.0);
    if rest > EXACT {
        return (rest + rest.sqrt() * normal(chance)).round().max(0.0);
    }
    let mut count = 0.0;
    while rest > 0.0 {
        let limit = (-rest.min(PART)).exp();
        let mut product = chance.f64();
        while product > limit {
            count += 1.0;
            product *= chance.f64();
        }
        rest -= PART;
    }
    count
}

/// How many of so many trials succeed, each with the same probability: the gaps between two successes are drawn.
pub fn binomial(chance: &mut fastrand::Rng, trials: f64, probability: f64) -> f64 {
    let trials = trials.max(0.0).floor();
    if probability > 0.5 {
        return trials - binomial(chance, trials, 1.0 - probability);
    }
    if probability.is_nan() || probability <= 0.0 {
        return 0.0;
    }
    let mean = trials * probability;
    if mean > EXACT {
        let spread = (mean * (1.0 - probability)).sqrt();
        return (mean + spread * normal(chance)).round().clamp(0.0, trials);
    }
    let fails = (-probability).ln_1p();
    let (mut count, mut place) = (0.0, 0.0);
    loop {
        // 1 - f64() is above 0, so that the logarithm is finite.
        place += ((1.0 - chance.f64()).ln() / fails).floor() + 1.0;
        if place > trials {
            return count;
        }
        count += 1.0;
    }
}

/// A normal number, of twelve uniform ones: for large means alone, where its short tails do not matter.
fn normal(chance: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| chance.f64()).sum::<f64>() - 6.0
}
