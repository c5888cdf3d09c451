//! Members under delays, lost and late requests, pauses, clocks of other speeds, deaths, joins and leaves: never two act on one
//! key at a time, and once it is calm each key has a member.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use serin::controller::apply::WRITE_TIMEOUT;
use serin::controller::shard::membership::{Card, Membership};
use serin::controller::shard::ring::Ring;

const KEYS: [&str; 6] = ["shop/cart", "shop/checkout", "shop/orders", "pay/ledger", "pay/cards", "web/front"];
/// Milliseconds with faults, until all must be settled, and that it stays so.
const ROUGH: u64 = 120_000;
const SETTLED: u64 = ROUGH + 45_000;
const END: u64 = SETTLED + 10_000;
/// How long a member waits for an answer, by its own clock.
const TIMEOUT: u64 = 3_000;

/// What happens to a member, or to the API server.
#[derive(Debug, Clone)]
enum Event {
    Look(usize),
    Listed(usize, u64, Option<Vec<Card>>),
    /// A list is made, whose answer arrives then.
    Read(usize, u64, u64),
    /// A write arrives: who sent it, onto which version, what it says, when it was begun, and when its answer arrives.
    Arrive(usize, u64, Ring, u64, Option<u64>),
    Answered(usize, u64, Ring, Option<u64>),
    Try(usize),
    Acted(usize, usize),
    Die(usize),
    Leave(usize),
    Left(usize),
    Pause(usize, u64),
    /// Its requests for Leases are lost, or arrive late, and what it does to Rollouts is not.
    Cut(usize, u64),
    Join,
}

struct Member {
    name: String,
    membership: Membership,
    version: u64,
    rate: f64,
    offset: u64,
    paused_until: u64,
    cut_until: u64,
    is_alive: bool,
    is_leaving: bool,
    under_way: BTreeSet<&'static str>,
}

struct World {
    chance: Rng,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    members: Vec<Member>,
    leases: BTreeMap<String, (u64, Ring)>,
    version: u64,
    /// Until when each member acts on each key at most.
    acts: BTreeMap<(usize, usize), u64>,
    acted: u64,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            chance: Rng::with_seed(seed),
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            members: Vec::new(),
            leases: BTreeMap::new(),
            version: 0,
            acts: BTreeMap::new(),
            acted: 0,
            log: Vec::new(),
        };
        for _ in 0..world.chance.u64(1..=3) {
            world.join();
        }
        for _ in 0..world.chance.u64(2..12) {
            let at = world.chance.u64(0..ROUGH);
            let member = world.chance.usize(0..6);
            let event = match world.chance.u8(0..10) {
                0 => Event::Die(member),
                1 => Event::Leave(member),
                2 | 3 => Event::Join,
                4 => Event::Pause(member, at + world.chance.u64(1_000..8_000)),
                5..=7 => Event::Cut(member, at + world.chance.u64(4_000..30_000)),
                _ => Event::Pause(member, at + world.chance.u64(8_000..40_000)),
            };
            world.at(at, event);
        }
        world
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    fn join(&mut self) {
        let number = self.members.len();
        if number >= 6 {
            return;
        }
        let name = format!("serin-{number}-{:x}", self.chance.u32(..));
        self.members.push(Member {
            membership: Membership::new(&name),
            name,
            version: 0,
            rate: self.chance.f64() * 0.2 + 0.9,
            offset: self.chance.u64(0..1_000_000),
            paused_until: 0,
            cut_until: 0,
            is_alive: true,
            is_leaving: false,
            under_way: BTreeSet::new(),
        });
        self.at(self.now, Event::Look(number));
        self.at(self.now, Event::Try(number));
        self.say(&format!("{number} joins"));
    }

    fn say(&mut self, what: &str) {
        self.log.push(format!("{:7} {what}", self.now));
    }

    /// The member's own clock.
    fn clock(&self, number: usize, at: u64) -> Duration {
        let member = &self.members[number];
        #[expect(clippy::cast_precision_loss, reason = "minutes in milliseconds are small")]
        let passed = Duration::from_secs_f64(at as f64 * member.rate / 1000.0);
        Duration::from_millis(member.offset) + passed
    }

    /// How long a request, or its answer, is on its way.
    fn delay(&mut self) -> u64 {
        let is_calm = self.now >= ROUGH;
        match self.chance.u8(0..20) {
            0 if !is_calm => self.chance.u64(500..6_000),
            1 | 2 if !is_calm => self.chance.u64(100..1_500),
            _ => self.chance.u64(1..40),
        }
    }

    fn is_lost(&mut self, of: usize) -> bool {
        let often = if self.members[of].cut_until > self.now { 20 } else { 1 };
        self.now < ROUGH && self.chance.u8(0..25) < often
    }

    fn run(&mut self) {
        while let Some(((at, sequence), event)) = self.events.pop_first() {
            if at > END {
                return;
            }
            self.now = at;
            let of = match &event {
                Event::Look(of) | Event::Listed(of, ..) | Event::Answered(of, ..) | Event::Try(of) => Some(*of),
                Event::Acted(of, ..) | Event::Left(of) | Event::Leave(of) => Some(*of),
                Event::Read(..)
                | Event::Arrive(..)
                | Event::Die(_)
                | Event::Pause(..)
                | Event::Cut(..)
                | Event::Join => None,
            };
            if let Some(member) = of.and_then(|of| self.members.get(of)) {
                if !member.is_alive {
                    continue;
                }
                if member.paused_until > at {
                    self.events.insert((member.paused_until, sequence), event);
                    continue;
                }
            }
            self.step(event);
            if at >= SETTLED {
                self.each_key_has_a_member();
            }
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Join => self.join(),
            Event::Die(of) | Event::Pause(of, _) | Event::Cut(of, _) | Event::Leave(of) if of >= self.members.len() => {
            }
            Event::Die(of) => {
                self.members[of].is_alive = false;
                self.say(&format!("{of} dies"));
            }
            Event::Pause(of, until) => {
                self.members[of].paused_until = until.min(ROUGH);
                self.say(&format!("{of} sleeps until {until}"));
            }
            Event::Cut(of, until) => {
                self.members[of].cut_until = until.min(ROUGH);
                self.say(&format!("{of} is cut off until {until}"));
            }
            Event::Leave(of) => {
                self.members[of].is_leaving = true;
                self.say(&format!("{of} leaves"));
            }
            Event::Left(of) => self.members[of].is_alive = false,
            Event::Look(of) => self.look(of),
            Event::Read(of, began, answer_at) => {
                let cards = self.cards();
                self.at(answer_at, Event::Listed(of, began, Some(cards)));
            }
            Event::Listed(of, began, cards) => self.listed(of, began, cards),
            Event::Arrive(of, onto, ring, began, answer_at) => self.arrive(of, onto, ring, began, answer_at),
            Event::Answered(of, began, ring, version) => self.answered(of, began, ring, version),
            Event::Try(of) => self.act(of),
            Event::Acted(of, key) => self.ended(of, key),
        }
    }

    /// Asks for all Leases; the answer has what there is when the request arrives.
    fn look(&mut self, of: usize) {
        let (began, there, back) = (self.now, self.delay(), self.delay());
        if self.is_lost(of) || there + back > TIMEOUT {
            self.at(began + TIMEOUT, Event::Listed(of, began, None));
        } else {
            self.at(began + there, Event::Read(of, began, began + there + back));
        }
    }

    fn listed(&mut self, of: usize, began: u64, cards: Option<Vec<Card>>) {
        let moment = (self.clock(of, began), self.clock(of, self.now));
        let member = &mut self.members[of];
        if let Some(cards) = cards {
            let own = cards.iter().find(|card| card.member == member.name);
            member.version = own.map_or(0, |card| card.version.parse().unwrap());
            member.membership.listed(moment, &cards);
        }
        let ring = if member.is_leaving && member.under_way.is_empty() {
            member.membership.fall();
            Ring::default()
        } else {
            member.membership.next(member.under_way.iter().copied())
        };
        member.membership.writing(&ring);
        let (onto, began) = (member.version, self.now);
        let (there, back) = (self.delay(), self.delay());
        // A request may arrive long after nobody waits for its answer any more.
        let late = if self.is_lost(of) { self.chance.u64(1_000..20_000) } else { 0 };
        let answer_at = (there + late + back <= TIMEOUT && !self.is_lost(of)).then_some(began + there + late + back);
        self.at(began + there + late, Event::Arrive(of, onto, ring.clone(), began, answer_at));
        if answer_at.is_none() {
            self.at(began + TIMEOUT, Event::Answered(of, began, ring, None));
        }
    }

    fn arrive(&mut self, of: usize, onto: u64, ring: Ring, began: u64, answer_at: Option<u64>) {
        let name = self.members[of].name.clone();
        let is_onto = self.leases.get(&name).map_or(0, |(version, _)| *version) == onto;
        if is_onto {
            self.version += 1;
            self.leases.insert(name, (self.version, ring.clone()));
            self.say(&format!("the lease of {of} says {ring}"));
        }
        if let Some(at) = answer_at {
            self.at(at, Event::Answered(of, began, ring, is_onto.then_some(self.version)));
        }
    }

    fn answered(&mut self, of: usize, began: u64, ring: Ring, version: Option<u64>) {
        let moment = (self.clock(of, began), self.clock(of, self.now));
        let member = &mut self.members[of];
        let has_left = version.is_some() && ring.is_empty();
        if let Some(version) = version {
            member.version = version;
            member.membership.written(moment, ring);
        }
        let wait = if member.membership.is_settled() { 2_000 } else { 300 };
        self.at(self.now + wait, if has_left { Event::Left(of) } else { Event::Look(of) });
    }

    /// Tries to act on some keys; a pass is under way until its last write is answered.
    fn act(&mut self, of: usize) {
        let wait = self.chance.u64(100..500);
        self.at(self.now + wait, Event::Try(of));
        for (key, name) in KEYS.into_iter().enumerate() {
            if self.members[of].under_way.contains(name) || !self.may_write(of, name) {
                continue;
            }
            self.members[of].under_way.insert(name);
            self.write(of, key);
        }
    }

    fn may_write(&self, of: usize, name: &str) -> bool {
        let membership = &self.members[of].membership;
        let now = self.clock(of, self.now);
        membership.stands_until().is_some_and(|until| now + WRITE_TIMEOUT < until)
            && !self.members[of].is_leaving
            && membership.share().holds(name)
    }

    /// A write that may land at any time until it is given up.
    fn write(&mut self, of: usize, key: usize) {
        let takes = if self.chance.bool() { self.chance.u64(1..200) } else { self.chance.u64(1..=4_700) };
        let until = self.now + takes;
        for ((other, _), lands) in self.acts.iter().filter(|((other, acted), _)| *acted == key && *other != of) {
            let log = self.log.join("\n");
            assert!(*lands <= self.now, "{of} acts on {} while {other} does, at {}:\n{log}", KEYS[key], self.now);
        }
        self.acts.insert((of, key), until);
        self.acted += 1;
        self.at(until, Event::Acted(of, key));
    }

    fn ended(&mut self, of: usize, key: usize) {
        if self.chance.u8(0..3) == 0 && self.may_write(of, KEYS[key]) {
            self.write(of, key);
        } else {
            self.members[of].under_way.remove(KEYS[key]);
        }
    }

    fn each_key_has_a_member(&self) {
        for key in KEYS {
            let holds =
                |member: &&Member| member.is_alive && !member.is_leaving && member.membership.share().holds(key);
            let holders: Vec<&str> = self.members.iter().filter(holds).map(|member| member.name.as_str()).collect();
            let lives = self.members.iter().any(|member| member.is_alive && !member.is_leaving);
            assert!(
                holders.len() == usize::from(lives),
                "{key} has {holders:?} at {}:\n{}",
                self.now,
                self.log.join("\n")
            );
        }
    }

    fn cards(&self) -> Vec<Card> {
        let card = |(member, (version, ring)): (&String, &(u64, Ring))| Card {
            member: member.clone(),
            version: version.to_string(),
            ring: ring.clone(),
        };
        self.leases.iter().map(card).collect()
    }
}

/// Every run tells the same stories; `PROPTEST_CASES=5000 cargo test membership` tells more.
#[test]
fn never_two_at_one_time_and_always_one_once_it_is_calm() {
    let cases = u64::from(proptest::test_runner::Config::default().cases);
    let mut acted = 0;
    for seed in 0..cases {
        let mut world = World::new(seed);
        world.say(&format!("seed {seed}"));
        world.run();
        acted += world.acted;
    }
    assert!(acted > cases * 100, "members act: {acted} writes in {cases} stories");
}
