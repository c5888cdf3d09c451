//! One bet: a mixture over alternatives whose gains multiply.

/// Ratios above what is tolerated that an abort bets on, as multiples of it.
const WORSE: [f64; 10] = [1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 40.0, 100.0];
/// Ratios below the margin that a pass bets on, as multiples of it.
const BETTER: [f64; 6] = [0.8, 0.67, 0.5, 0.33, 0.2, 0.1];

/// The evidence for one side of a question, and the mixture's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Natural logarithm of the evidence so far.
    pub log_e: f64,
    /// Natural logarithms of the weights: of the part that abstains, where there is one, and of each alternative.
    pub log_weights: Vec<f64>,
    alternatives: &'static [f64],
    log_prior: Vec<f64>,
}

impl Process {
    /// Bets that something is worse.
    pub fn worse(abstain: f64) -> Self {
        Self::new(&WORSE, abstain)
    }

    /// Bets that something is better.
    pub fn better() -> Self {
        Self::new(&BETTER, 0.0)
    }

    fn new(alternatives: &'static [f64], abstain: f64) -> Self {
        let each = (1.0 - abstain) / f64::from(u32::try_from(alternatives.len()).unwrap_or(u32::MAX));
        let held = (abstain > 0.0).then(|| abstain.ln());
        let log_prior: Vec<f64> = held.into_iter().chain(alternatives.iter().map(|_| each.ln())).collect();
        Self { log_e: 0.0, log_weights: log_prior.clone(), alternatives, log_prior }
    }

    /// Takes one window in: the logarithm of what each alternative gains by it, the part of the weights that is dealt anew, and
    /// the most that the window may add. The weights follow the whole gain: capping them too was tried, and made the test
    /// trust bursts.
    pub fn bet(&mut self, gain: impl Fn(f64) -> f64, share: f64, cap: f64) {
        let abstains = (self.log_prior.len() > self.alternatives.len()).then_some(0.0);
        let gains = abstains.into_iter().chain(self.alternatives.iter().map(|one| gain(*one)));
        let posterior: Vec<f64> = self.log_weights.iter().zip(gains).map(|(weight, gain)| weight + gain).collect();
        let log_mixture = log_sum(&posterior);
        self.log_e += log_mixture.min(cap);
        self.log_weights = if share > 0.0 {
            let dealt = |(weight, prior): (&f64, &f64)| {
                ((1.0 - share) * (weight - log_mixture).exp() + share * prior.exp()).ln()
            };
            posterior.iter().zip(&self.log_prior).map(dealt).collect()
        } else {
            posterior.iter().map(|weight| weight - log_mixture).collect()
        };
    }
}

/// The logarithm of a sum of exponentials.
pub(super) fn log_sum(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most.is_infinite() { most } else { most + logs.iter().map(|log| (log - most).exp()).sum::<f64>().ln() }
}

/// The logarithm of a mean of exponentials; 0 of none.
pub(super) fn log_mean(logs: &[f64]) -> f64 {
    if logs.is_empty() {
        return 0.0;
    }
    log_sum(logs) - f64::from(u32::try_from(logs.len()).unwrap_or(u32::MAX)).ln()
}
