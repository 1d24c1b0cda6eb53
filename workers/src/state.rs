//! What a checkpoint holds: named tensors, serialised as safetensors. Never a pickle.

use std::{borrow::Cow, collections::BTreeMap};

use safetensors::{Dtype, SafeTensors, View};

use crate::learner::Mismatch;

/// All that a learner needs to go on as if it had never stopped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LearnerState {
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Debug, Clone, PartialEq)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A tensor that takes its place in the header and leaves its bytes out.
struct Header<'a>(&'a Tensor);

impl View for Header<'_> {
    fn dtype(&self) -> Dtype {
        self.0.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&[])
    }
    fn data_len(&self) -> usize {
        self.0.bytes.len()
    }
}

impl LearnerState {
    /// Adds a float tensor.
    pub fn push_f32(&mut self, name: &str, shape: Vec<usize>, values: &[f32]) {
        let mut bytes = vec![0; size_of_val(values)];
        bytes.as_chunks_mut().0.iter_mut().zip(values).for_each(|(b, v)| *b = v.to_le_bytes());
        self.tensors.insert(name.to_owned(), Tensor { dtype: Dtype::F32, shape, bytes });
    }

    /// Adds a vector of counters.
    pub fn push_u64(&mut self, name: &str, values: &[u64]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), Tensor { dtype: Dtype::U64, shape: vec![values.len()], bytes });
    }

    /// Adds numbers in f64, kept as their bits.
    pub fn push_f64(&mut self, name: &str, values: &[f64]) {
        let bits: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
        self.push_u64(name, &bits);
    }

    /// The numbers `name` in f64, of which there must be `len`.
    ///
    /// # Errors
    /// They are absent or of another length or type.
    pub fn f64(&self, name: &str, len: usize) -> Result<Vec<f64>, Mismatch> {
        Ok(self.u64(name, len)?.into_iter().map(f64::from_bits).collect())
    }

    /// The float tensor `name`, which must have this shape.
    ///
    /// # Errors
    /// It is absent or of another shape or type.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Mismatch> {
        let bytes = self.tensor(name, Dtype::F32, shape)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// The counters `name`, of which there must be `len`.
    ///
    /// # Errors
    /// They are absent or of another length or type.
    pub fn u64(&self, name: &str, len: usize) -> Result<Vec<u64>, Mismatch> {
        let bytes = self.tensor(name, Dtype::U64, &[len])?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect())
    }

    /// Rows of the tensor `name`, where only the state knows how many there are.
    ///
    /// # Errors
    /// It is absent, or a single number.
    pub fn rows(&self, name: &str) -> Result<usize, Mismatch> {
        let rows = self.tensors.get(name).and_then(|tensor| tensor.shape.first().copied());
        rows.ok_or_else(|| Mismatch(format!("there is no tensor `{name}` of rows")))
    }

    fn tensor(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&[u8], Mismatch> {
        match self.tensors.get(name) {
            Some(t) if t.dtype == dtype && t.shape == shape => Ok(&t.bytes),
            Some(t) => Err(Mismatch(format!(
                "tensor `{name}` is {:?} {:?}, not {dtype:?} {shape:?}",
                t.dtype, t.shape
            ))),
            None => Err(Mismatch(format!("there is no tensor `{name}`"))),
        }
    }

    /// As the bytes of a safetensors file. Same state, same bytes.
    ///
    /// # Errors
    /// A tensor's bytes do not fit its shape (a bug in the learner).
    pub fn to_bytes(&self) -> Result<Vec<u8>, Mismatch> {
        safetensors::serialize(&self.tensors, None).map_err(|e| Mismatch(e.to_string()))
    }

    /// What [`LearnerState::to_bytes`] returns, in pieces: the header, then each tensor as it lies in
    /// memory. A checkpoint is as large as parameters and moments, and there is no room for it twice.
    ///
    /// # Errors
    /// A tensor's bytes do not fit its shape (a bug in the learner).
    pub fn into_pieces(self) -> Result<Vec<Vec<u8>>, Mismatch> {
        let mut tensors: Vec<(String, Tensor)> = self.tensors.into_iter().collect();
        // The order of the format: widest numbers first, so that all are aligned; then by name.
        tensors.sort_by(|(a, x), (b, y)| y.dtype.cmp(&x.dtype).then(a.cmp(b)));
        let header = safetensors::serialize(tensors.iter().map(|(name, t)| (name, Header(t))), None);
        let mut header = header.map_err(|e| Mismatch(e.to_string()))?;
        header.shrink_to_fit();
        Ok([header].into_iter().chain(tensors.into_iter().map(|(_, tensor)| tensor.bytes)).collect())
    }

    /// From the bytes of a safetensors file.
    ///
    /// # Errors
    /// The bytes are not a safetensors file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Mismatch> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| Mismatch(e.to_string()))?;
        let read = |(name, t): (String, safetensors::tensor::TensorView)| {
            (name, Tensor { dtype: t.dtype(), shape: t.shape().to_vec(), bytes: t.data().to_vec() })
        };
        Ok(LearnerState { tensors: file.tensors().into_iter().map(read).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_shapes_are_checked() {
        let mut state = LearnerState::default();
        state.push_f32("w", vec![2, 2], &[1.0, -2.0, 0.5, f32::MIN_POSITIVE]);
        state.push_u64("step", &[7]);
        state.push_f64("mean", &[0.1, f64::NEG_INFINITY]);
        let bytes = state.to_bytes().unwrap();
        let back = LearnerState::from_bytes(&bytes).unwrap();
        assert_eq!(back, state);
        assert_eq!(back.to_bytes().unwrap(), bytes);
        assert_eq!(back.clone().into_pieces().unwrap().concat(), bytes);
        assert_eq!(back.f64("mean", 2), Ok(vec![0.1, f64::NEG_INFINITY]));
        assert!(back.f32("w", &[4]).is_err());
        assert!(back.f32("v", &[4]).is_err());
        assert_eq!((back.rows("w"), back.rows("v").is_err()), (Ok(2), true));
        assert!(LearnerState::from_bytes(b"not a safetensors file").is_err());
    }
}
