//! ParameterStatus values of a server connection.

type Bytes = Box<[u8]>;

/// The reported parameters in the order in which the server first told them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(Bytes, Bytes)>);

impl Parameters {
    /// Takes a reported value; returns whether it is new.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> bool {
        match self.0.iter_mut().find(|(key, _)| **key == *name) {
            Some((_, old)) if **old == *value => false,
            Some((_, old)) => {
                *old = value.into();
                true
            }
            None => {
                self.0.push((name.into(), value.into()));
                true
            }
        }
    }

    /// The last reported value.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}
