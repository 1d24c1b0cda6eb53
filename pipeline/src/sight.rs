//! Which values of a row a learner sees: those it encodes, one column after the other, and those beside.

use std::ops::Range;

use atomflow_workers::learner::Role;

use crate::{
    Error, Result,
    resolved::Resolved,
    source::{Manifest, asked::ValueKind},
};

/// The values of a row that one learner sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Values of a whole row.
    pub width: usize,
    /// What it encodes, in order.
    pub inputs: Vec<Range<usize>>,
    /// The columns beside, in order.
    pub beside: Vec<(Range<usize>, Role)>,
}

impl Sight {
    /// What `learner` sees of the rows of `manifest`.
    ///
    /// # Errors
    /// A column of the learner was not scanned (a bug).
    pub fn of(manifest: &Manifest, learner: &Resolved) -> Result<Self> {
        let column = |name: &str, kind| {
            let missing = || Error::bug(format!("column `{name}` was not scanned"));
            manifest.column(name, kind).ok_or_else(missing)
        };
        let inputs = learner.inputs.iter().map(|name| column(name, ValueKind::Vectors));
        let beside = learner.beside.iter().map(|b| Ok((column(&b.name, kind_of(b.role))?, b.role)));
        Ok(Sight {
            width: manifest.d_in,
            inputs: inputs.collect::<Result<_>>()?,
            beside: beside.collect::<Result<_>>()?,
        })
    }

    /// All of a row, which is one column.
    pub fn whole(width: usize) -> Self {
        Sight::one(width, 0..width)
    }

    /// One column of a row of `width` values.
    pub fn one(width: usize, column: Range<usize>) -> Self {
        Sight { width, inputs: Vec::from([column]), beside: Vec::new() }
    }

    /// Values that are encoded.
    pub fn d_in(&self) -> usize {
        self.inputs.iter().map(Range::len).sum()
    }

    /// The values that are reconstructed, one column after the other: the target, else the inputs.
    pub fn reconstructed(&self) -> Vec<Range<usize>> {
        let target = self.beside.iter().find(|(_, role)| *role == Role::Target);
        target.map_or_else(|| self.inputs.clone(), |(column, _)| vec![column.clone()])
    }

    /// Values that are reconstructed.
    pub fn d_out(&self) -> usize {
        self.reconstructed().iter().map(Range::len).sum()
    }

    /// Values of a row that are looked at.
    pub fn values(&self) -> usize {
        self.d_in() + self.beside.iter().map(|(column, _)| column.len()).sum::<usize>()
    }

    /// Widths of the inputs and of the columns beside.
    pub fn widths(&self) -> (Vec<usize>, Vec<usize>) {
        let beside = self.beside.iter().map(|(column, _)| column.len());
        (self.inputs.iter().map(Range::len).collect(), beside.collect())
    }

    /// These values of the rows `x`, `[rows, width]`; `None` where they are whole rows as they lie.
    pub fn pick(&self, columns: &[Range<usize>], x: &[f32]) -> Option<Vec<f32>> {
        if matches!(columns, [column] if *column == (0..self.width)) {
            return None;
        }
        let values: usize = columns.iter().map(Range::len).sum();
        let mut picked = Vec::with_capacity(x.len() / self.width * values);
        for row in x.chunks_exact(self.width) {
            columns.iter().for_each(|column| picked.extend_from_slice(&row[column.clone()]));
        }
        Some(picked)
    }
}

/// How the values of a column beside the vectors are taken.
pub(crate) fn kind_of(role: Role) -> ValueKind {
    match role {
        Role::Target | Role::Gradient => ValueKind::Vectors,
        Role::Label => ValueKind::Labels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_picked_in_the_order_of_the_learner() {
        let sight = Sight { width: 4, inputs: vec![2..4, 0..1], beside: vec![(1..2, Role::Target)] };
        let x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        assert_eq!(sight.pick(&sight.inputs, &x).unwrap(), [2.0, 3.0, 0.0, 6.0, 7.0, 4.0]);
        assert_eq!(sight.pick(&sight.reconstructed(), &x).unwrap(), [1.0, 5.0]);
        assert_eq!((sight.d_in(), sight.d_out(), sight.values()), (3, 1, 4));
        assert_eq!(Sight::whole(4).pick(&Sight::whole(4).inputs, &x), None);
        assert_eq!(Sight { beside: Vec::new(), ..sight }.d_out(), 3);
    }
}
