//! Generational slots: ids that are array indices, yet never name a later occupant.

use std::fmt;
use std::marker::PhantomData;

/// Names an entry of [`Slots<T>`]: a slot and the generation that lives in it.
pub struct SlotId<T> {
    slot: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

/// Marks the id of a connection, whatever a transport keeps about it.
#[derive(Debug)]
pub enum Conn {}

/// Marks the id of a listener.
#[derive(Debug)]
pub enum Listener {}

/// A connection of one transport.
pub type ConnId = SlotId<Conn>;

/// A listener of one transport.
pub type ListenerId = SlotId<Listener>;

impl<T> SlotId<T> {
    /// The array index, for tables beside [`Slots`]. Reused by later occupants.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// An id that packs into 64 bits, for registration with a kernel or a device.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The inverse of [`to_u64`](Self::to_u64).
    pub fn from_u64(value: u64) -> Self {
        Self {
            slot: value as u32,
            generation: (value >> 32) as u32,
            of: PhantomData,
        }
    }
}

impl<T> Clone for SlotId<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for SlotId<T> {}
impl<T> PartialEq for SlotId<T> {
    fn eq(&self, other: &Self) -> bool {
        self.to_u64() == other.to_u64()
    }
}
impl<T> Eq for SlotId<T> {}
impl<T> std::hash::Hash for SlotId<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.to_u64().hash(state);
    }
}
impl<T> PartialOrd for SlotId<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for SlotId<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_u64().cmp(&other.to_u64())
    }
}
impl<T> fmt::Debug for SlotId<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.slot, self.generation)
    }
}

/// Entries of type `V`, named by ids of kind `K`. A removed entry's id is never valid again.
#[derive(Debug)]
pub struct Slots<K, V> {
    entries: Vec<Entry<V>>,
    free: Vec<u32>,
    of: PhantomData<fn() -> K>,
}

#[derive(Debug)]
struct Entry<V> {
    generation: u32,
    value: Option<V>,
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            of: PhantomData,
        }
    }
}

impl<K, V> Slots<K, V> {
    /// Adds the value that `make` builds for its own id.
    pub fn insert_with(&mut self, make: impl FnOnce(SlotId<K>) -> V) -> SlotId<K> {
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = u32::try_from(self.entries.len()).expect("fewer than 2^32 slots");
            self.entries.push(Entry {
                generation: 0,
                value: None,
            });
            slot
        });
        let entry = &mut self.entries[slot as usize];
        let id = SlotId {
            slot,
            generation: entry.generation,
            of: PhantomData,
        };
        entry.value = Some(make(id));
        id
    }

    /// Adds a value.
    pub fn insert(&mut self, value: V) -> SlotId<K> {
        self.insert_with(|_| value)
    }

    /// The value of a live id.
    pub fn get(&self, id: SlotId<K>) -> Option<&V> {
        let entry = self.entries.get(id.slot as usize)?;
        if entry.generation == id.generation {
            entry.value.as_ref()
        } else {
            None
        }
    }

    /// The value of a live id.
    pub fn get_mut(&mut self, id: SlotId<K>) -> Option<&mut V> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        if entry.generation == id.generation {
            entry.value.as_mut()
        } else {
            None
        }
    }

    /// Takes the value out; the id is dead from now on.
    pub fn remove(&mut self, id: SlotId<K>) -> Option<V> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(value)
    }

    /// The number of live entries.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is no live entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All live entries.
    pub fn iter(&self) -> impl Iterator<Item = (SlotId<K>, &V)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| {
            let id = SlotId {
                slot: slot as u32,
                generation: entry.generation,
                of: PhantomData,
            };
            entry.value.as_ref().map(|value| (id, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_slot_does_not_answer_to_its_old_id() {
        let mut slots: Slots<Conn, &str> = Slots::default();
        let old = slots.insert("old");
        assert_eq!(slots.remove(old), Some("old"));
        let new = slots.insert("new");
        assert_eq!(
            new.to_u64() as u32,
            old.to_u64() as u32,
            "the slot is reused"
        );
        assert_eq!(slots.get(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.get(new), Some(&"new"));
        assert_eq!(slots.len(), 1);
        assert_eq!(SlotId::from_u64(new.to_u64()), new);
    }
}
