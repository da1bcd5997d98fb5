//! The expressions of outputs and of sessions are compiled, each once: those that have one in
//! common share it.

use std::sync::Arc;

use super::super::error::PlanError;
use super::super::origin::Said;
use crate::route::Expression;

/// The expressions that were compiled.
#[derive(Default)]
pub(super) struct Expressions(Vec<Arc<Expression>>);

impl Expressions {
    /// Compiles an expression, if there is one. Adds to `wrong` why it cannot be used.
    pub(super) fn compile(
        &mut self,
        text: Option<&str>,
        said: impl Fn() -> Said,
        wrong: &mut Vec<PlanError>,
    ) -> Option<Arc<Expression>> {
        let text = text?;
        if let Some(known) = self.0.iter().find(|known| known.text() == text) {
            return Some(Arc::clone(known));
        }
        match Expression::new(text) {
            Ok(new) => {
                let new = Arc::new(new);
                self.0.push(Arc::clone(&new));
                Some(new)
            }
            Err(error) => {
                wrong.push(PlanError::Filter { said: said(), error });
                None
            }
        }
    }
}
