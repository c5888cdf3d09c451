//! What a test remembers between two looks, and its form as text.

use base64::Engine as _;

use super::process::log_sum;
use super::{Against, Interval, Process, Test, Window};

/// The form's version.
const VERSION: f64 = 1.0;

/// A bet that the canary is worse, and one that it is better. The latter is begun anew at every weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Bets {
    /// That it is worse.
    pub worse: Process,
    /// That it is better.
    pub better: Process,
}

/// The bets on one bound of latency, or on errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// On the ratio to stable's rate: above the tolerance, below the margin. Only where there is a stable side.
    pub ratio: Option<Bets>,
    /// On the canary's rate: above and below the limit, or the floor. Only where there is one.
    pub rate: Option<Bets>,
}

impl Stream {
    fn bets(&mut self) -> impl Iterator<Item = &mut Bets> {
        self.ratio.iter_mut().chain(&mut self.rate)
    }
}

/// All that a test remembers.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// What the test asks, so that evidence for one question is not read as that for another.
    asks: [f64; 5],
    /// One a bound of latency; one for errors.
    pub streams: Vec<Stream>,
    /// Which ratios are left at this weight, at the bound in the middle.
    pub interval: Interval,
    /// Windows with data so far.
    pub windows: u32,
    /// Requests in this step.
    pub step: Window,
    /// Windows with data in this step.
    pub step_windows: u32,
}

impl State {
    /// Nothing seen.
    pub fn new(test: &Test) -> Self {
        let bets = || Bets { worse: Process::worse(test.abstain), better: Process::better() };
        let has_stable = matches!(test.against, Against::Stable { .. });
        let stream = Stream { ratio: has_stable.then(bets), rate: test.rate().map(|_| bets()) };
        Self {
            asks: asks(test),
            streams: vec![stream; test.bounds.max(1)],
            interval: Interval::default(),
            windows: 0,
            step: Window::default(),
            step_windows: 0,
        }
    }

    /// Another weight: what passes a step is proven anew, and the ratio is another; what aborts goes on.
    pub fn begin_step(&mut self) {
        self.streams.iter_mut().flat_map(Stream::bets).for_each(|bets| bets.better = Process::better());
        self.interval = Interval::default();
        self.step = Window::default();
        self.step_windows = 0;
    }

    /// Counts a window.
    pub(super) fn add(&mut self, window: Window) {
        let Window { canary, stable } = self.step;
        self.step = Window { canary: canary + window.canary, stable: stable + window.stable };
        self.windows = self.windows.saturating_add(1);
        self.step_windows = self.step_windows.saturating_add(1);
    }

    fn numbers(&mut self) -> Vec<&mut f64> {
        let Window { canary, stable } = &mut self.step;
        let mut numbers = vec![&mut canary.requests, &mut canary.bad, &mut stable.requests, &mut stable.bad];
        for process in
            self.streams.iter_mut().flat_map(Stream::bets).flat_map(|bets| [&mut bets.worse, &mut bets.better])
        {
            numbers.push(&mut process.log_e);
            numbers.extend(&mut process.log_weights);
        }
        numbers.extend(&mut self.interval.logs);
        numbers
    }

    /// As text: every number to the last bit, eight bytes each, little end first, in base64.
    pub fn encode(&self) -> String {
        let mut state = self.clone();
        let heads = [VERSION, f64::from(self.windows), f64::from(self.step_windows)];
        let numbers = heads.into_iter().chain(self.asks).chain(state.numbers().into_iter().map(|number| *number));
        let bytes: Vec<u8> = numbers.flat_map(f64::to_le_bytes).collect();
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    /// The state of a test that was written so; none where the text is of another test, or of another version.
    pub fn decode(test: &Test, text: &str) -> Option<Self> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut read = chunks.iter().map(|bytes| f64::from_le_bytes(*bytes));
        if !rest.is_empty() || read.next()? != VERSION {
            return None;
        }
        let mut state = Self::new(test);
        (state.windows, state.step_windows) = (whole(read.next()?)?, whole(read.next()?)?);
        if !state.asks.iter().all(|asked| read.next() == Some(*asked)) {
            return None;
        }
        for number in state.numbers() {
            *number = read.next().filter(|number| number.is_finite())?;
        }
        (read.next().is_none() && state.is_sound()).then_some(state)
    }

    /// Counts are counts, and the parts of every mixture are parts of one.
    fn is_sound(&mut self) -> bool {
        const SLACK: f64 = 1e-6;
        let is_whole = |process: &Process| log_sum(&process.log_weights).abs() < SLACK;
        self.step.checked() == Some(self.step)
            && self
                .streams
                .iter_mut()
                .flat_map(Stream::bets)
                .all(|bets| is_whole(&bets.worse) && is_whole(&bets.better))
    }
}

/// What a test asks, as numbers.
fn asks(test: &Test) -> [f64; 5] {
    match test.against {
        Against::Stable { tolerance, margin, floor } => [1.0, tolerance, margin, floor, test.abstain],
        Against::Limit(rate) => [2.0, rate, 0.0, 0.0, test.abstain],
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
fn whole(number: f64) -> Option<u32> {
    (number >= 0.0 && number <= f64::from(u32::MAX) && number.fract() == 0.0).then_some(number as u32)
}
