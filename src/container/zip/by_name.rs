//! Places of members by name. The names themselves are the members': the table holds numbers only. The hash is seeded for
//! each process, as names come from strangers.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::Member;

/// Places of members by name.
#[derive(Debug, Default)]
pub(super) struct ByName {
    places: HashTable<u32>,
    state: RandomState,
}

impl ByName {
    pub(super) fn with_capacity(members: usize) -> Self {
        ByName { places: HashTable::with_capacity(members), state: RandomState::default() }
    }

    /// Those of all `members`; of two that have one name, the last.
    pub(super) fn of(members: &[Member]) -> Self {
        let mut all = Self::with_capacity(members.len());
        for place in 0..members.len() {
            if let Some((before, [member, ..])) = members.split_at_checked(place) {
                all.insert(before, &member.name);
            }
        }
        all
    }

    /// The place of the member of this name.
    pub(super) fn get(&self, members: &[Member], name: &str) -> Option<usize> {
        let place = self.places.find(self.state.hash_one(name), |place| is_of(members, *place, name))?;
        Some(*place as usize)
    }

    /// Takes in the one that comes next after `members`; gives the place of one of the same name, which it replaces.
    pub(super) fn insert(&mut self, members: &[Member], name: &str) -> Option<usize> {
        let ByName { places, state } = self;
        let next = u32::try_from(members.len()).ok()?;
        let hash = |place: &u32| members.get(*place as usize).map_or(0, |member| state.hash_one(&*member.name));
        match places.entry(state.hash_one(name), |place| is_of(members, *place, name), hash) {
            Entry::Occupied(mut known) => Some(std::mem::replace(known.get_mut(), next) as usize),
            Entry::Vacant(free) => {
                free.insert(next);
                None
            }
        }
    }
}

fn is_of(members: &[Member], place: u32, name: &str) -> bool {
    members.get(place as usize).is_some_and(|member| *member.name == *name)
}
