//! Work that goes on after a failure, as DEL and GC do, and tells of all of them at the end.

use cni::Error;

/// The failures of a teardown, which goes on after each.
#[derive(Default)]
pub(crate) struct Failures(Vec<Error>);

impl Failures {
    /// Notes a failure; what succeeded is passed on.
    pub(crate) fn note<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// One failure is reported as it is, with its code; several in one text.
    pub(crate) fn into_result(mut self) -> Result<(), Error> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.remove(0)),
            _ => {
                let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
                Err(Error::internal(texts.join("; ")))
            }
        }
    }
}
