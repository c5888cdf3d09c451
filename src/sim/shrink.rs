//! A story that is broken, made as short as it can be while it stays broken.

use super::story::Story;

/// Runs that may be spent on one story.
const RUNS_MOST: usize = 600;

/// The shortest story that is still broken and comes from this one by leaving things out.
pub fn shrink(story: Story, is_broken: impl Fn(&Story) -> bool) -> Story {
    let mut search = Search { story, is_broken, runs: 0 };
    loop {
        let before = search.story.clone();
        search.leave_out(
            |story| story.faults.len(),
            |story, from, to| {
                let kept = story.faults.iter().enumerate().filter(|(at, _)| !(from..to).contains(at));
                story.faults = kept.map(|(_, (number, fault))| (*number, *fault)).collect();
            },
        );
        search.leave_out(
            |story| story.events.len(),
            |story, from, to| {
                story.events.drain(from..to.min(story.events.len()));
            },
        );
        search.try_change(|story| story.controllers = 1);
        if search.story == before || search.runs >= RUNS_MOST {
            return search.story;
        }
    }
}

struct Search<F> {
    story: Story,
    is_broken: F,
    runs: usize,
}

impl<F: Fn(&Story) -> bool> Search<F> {
    fn try_change(&mut self, change: impl Fn(&mut Story)) -> bool {
        let mut story = self.story.clone();
        change(&mut story);
        self.runs += 1;
        let is_better = story != self.story && self.runs < RUNS_MOST && (self.is_broken)(&story);
        if is_better {
            self.story = story;
        }
        is_better
    }

    /// Leaves out halves, then quarters, down to single things.
    fn leave_out(&mut self, count: impl Fn(&Story) -> usize, remove: impl Fn(&mut Story, usize, usize)) {
        let mut size = count(&self.story).div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < count(&self.story) {
                if !self.try_change(|story| remove(story, from, from + size)) {
                    from += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::story::{At, Event, Fault};

    #[test]
    fn what_is_not_needed_is_left_out() {
        let events = (0..20).map(|at| At { at, event: Event::Outage(at) }).collect();
        let faults = (0..50).map(|number| (number, Fault::Hangs)).collect();
        let story = Story { events, faults, controllers: 2, ..Story::default() };
        let shortest = shrink(story, |story| {
            let has = |wanted: u64| story.events.iter().any(|at| at.at == wanted);
            has(3) && has(17) && story.faults.contains_key(&42)
        });
        assert_eq!(shortest.events.iter().map(|at| at.at).collect::<Vec<_>>(), [3, 17]);
        assert_eq!(shortest.faults.keys().copied().collect::<Vec<_>>(), [42]);
        assert_eq!(shortest.controllers, 1);
    }
}
