//! [`explore`]: every world that can be reached, breadth first, so that a trace is a shortest one.
//!
//! Why not an existing checker: this one keeps the graph, and so proves what can always still
//! happen, not only what must not. A world is an end if nothing but faults happens any more; in each
//! everything must be done. From every world an end must be within reach: two nodes may thwart each
//! other for a while, if every timer expires just then, but nothing can keep them at it.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;

use crate::setup::Setup;
use crate::shape::Key;
use crate::sights::Sights;
use crate::step::step;
use crate::world::{Action, World};

/// What there is in a space that has been explored to its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// Different worlds.
    pub(crate) worlds: usize,
    /// Steps between them.
    pub(crate) steps: usize,
    /// Worlds in which nothing happens any more, unless there is a fault.
    pub(crate) ends: usize,
    /// Worlds that were not looked beyond.
    pub(crate) beyond: usize,
    pub(crate) sights: Sights,
}

/// The worlds found so far, by number, and the steps between them.
#[derive(Debug, Default)]
struct Graph {
    numbers: HashMap<Key, u32>,
    /// Where each world was first reached from, and how.
    origins: Vec<Option<(u32, Action)>>,
    /// The worlds that each world's steps lead to, one behind the other.
    targets: Vec<u32>,
    /// Where each world's targets begin.
    starts: Vec<usize>,
}

/// Explores every world that can be reached.
///
/// # Panics
/// With a trace, if there is one in which something is wrong.
pub(crate) fn explore(setup: &Setup) -> Space {
    let mut graph = Graph::default();
    let mut space = Space {
        worlds: 0,
        steps: 0,
        ends: 0,
        beyond: 0,
        sights: Sights::default(),
    };
    let mut ends = Vec::new();
    let first = World::new(setup);
    graph.add(first.key(), None);
    let mut queue = VecDeque::from([first]);
    while let Some(world) = queue.pop_front() {
        let number = graph.starts.len() as u32;
        graph.starts.push(graph.targets.len());
        if world.is_beyond(setup) {
            ends.push(number);
            space.beyond += 1;
            continue;
        }
        let actions = world.actions(setup);
        if actions.iter().all(|action| action.is_fault()) {
            ends.push(number);
            if let Some(why) = world.unfinished(setup) {
                panic!("{}it ends: {why}", graph.trace(setup, number));
            }
        }
        for action in actions {
            let next = step(setup, &world, action, &mut space.sights).unwrap_or_else(|why| {
                panic!("{}{action}\nviolation: {why}", graph.trace(setup, number))
            });
            let (target, is_new) = graph.add(next.key(), Some((number, action)));
            graph.targets.push(target);
            if is_new {
                queue.push_back(next);
            }
        }
    }
    graph.starts.push(graph.targets.len());
    if let Some(number) = graph.trap(&ends) {
        panic!("{}it never ends", graph.trace(setup, number));
    }
    space.ends = ends.len() - space.beyond;
    space.worlds = graph.origins.len();
    space.steps = graph.targets.len();
    space
}

impl Graph {
    /// The number of a world, and whether it is new.
    fn add(&mut self, key: Key, origin: Option<(u32, Action)>) -> (u32, bool) {
        let next = self.origins.len() as u32;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.origins.push(origin);
        }
        (number, number == next)
    }

    /// How a world was reached.
    fn trace(&self, setup: &Setup, mut number: u32) -> String {
        let mut actions = Vec::new();
        while let Some((from, action)) = self.origins[number as usize] {
            actions.push(action);
            number = from;
        }
        let mut world = World::new(setup);
        let mut text = String::from("\n");
        for action in actions.into_iter().rev() {
            let next = step(setup, &world, action, &mut Sights::default());
            world = next.expect("it was done before");
            write!(text, "{action}\n{world}").expect("a string takes it");
        }
        text
    }

    /// A world from which none of `ends` can be reached.
    fn trap(&self, ends: &[u32]) -> Option<u32> {
        // Where each target is reached from: the steps the other way round.
        let worlds = self.origins.len();
        let mut starts = vec![0usize; worlds + 1];
        self.targets
            .iter()
            .for_each(|target| starts[*target as usize + 1] += 1);
        (0..worlds).for_each(|number| starts[number + 1] += starts[number]);
        let mut filled = starts.clone();
        let mut sources = vec![0u32; self.targets.len()];
        for (number, range) in self.starts.windows(2).enumerate() {
            for target in &self.targets[range[0]..range[1]] {
                let at = &mut filled[*target as usize];
                sources[*at] = number as u32;
                *at += 1;
            }
        }
        let mut leads_to_end = vec![false; worlds];
        let mut found = ends.to_vec();
        while let Some(number) = found.pop() {
            let number = number as usize;
            if !std::mem::replace(&mut leads_to_end[number], true) {
                found.extend(&sources[starts[number]..starts[number + 1]]);
            }
        }
        (0..)
            .zip(leads_to_end)
            .find_map(|(number, leads)| (!leads).then_some(number))
    }
}
