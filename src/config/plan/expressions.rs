//! The expressions of outputs and of sessions are compiled, each once: those that have one in
//! common share it.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::error::PlanError;
use super::super::origin::Said;
use crate::route::{CompileError, Expression};

/// What became of the expressions that were compiled, by their texts.
#[derive(Default)]
pub(super) struct Expressions<'s>(HashMap<&'s str, Result<Arc<Expression>, CompileError>>);

impl<'s> Expressions<'s> {
    /// Compiles an expression, if there is one. Adds to `wrong` why it cannot be used.
    pub(super) fn compile(
        &mut self,
        text: Option<&'s str>,
        said: impl Fn() -> Said,
        wrong: &mut Vec<PlanError>,
    ) -> Option<Arc<Expression>> {
        let text = text?;
        match self.0.entry(text).or_insert_with(|| Expression::new(text).map(Arc::new)) {
            Ok(known) => Some(Arc::clone(known)),
            Err(error) => {
                wrong.push(PlanError::Filter { said: said(), error: error.clone() });
                None
            }
        }
    }
}
