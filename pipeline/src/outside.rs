//! The other side of an outside loss: a process that listens on a local socket and is asked with Arrow.
//!
//! A question and an answer are each a length (u64, little-endian) and an Arrow IPC stream of one batch:
//! any Arrow library reads and writes them from memory (`docs/outside-loss.md`).

use std::{
    collections::HashMap,
    fmt,
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow::{
    array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch},
    datatypes::{DataType, Field, Float32Type, Schema},
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use atomflow_workers::skeleton::outside::{Answer, OutsideLoss, Reconstruction};

use crate::stop::lock;

/// How long an answer may take: a model runs forward and back for it.
const PATIENCE: Duration = Duration::from_secs(600);
/// An answer cannot be larger than this.
const ANSWER_BYTES_MAX: u64 = 8 << 30;

/// A connection, made with the first question, and what went wrong with it.
pub struct Socket {
    address: String,
    /// Names of the columns that are sent along.
    names: Vec<String>,
    stream: Mutex<Option<UnixStream>>,
    failure: Mutex<Option<String>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Socket {
    /// To whoever listens at `unix:/path`. `names` are the columns that are sent along.
    pub fn new(address: &str, names: Vec<String>) -> Socket {
        let (stream, failure) = (Mutex::new(None), Mutex::new(None));
        Socket { address: address.to_owned(), names, stream, failure }
    }

    fn connect(&self) -> std::io::Result<UnixStream> {
        let stream = UnixStream::connect(self.address.strip_prefix("unix:").unwrap_or(&self.address))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn ask(&self, question: &Reconstruction) -> Result<Answer, String> {
        let bytes = self.question(question).map_err(|e| e.to_string())?;
        let mut connection = lock(&self.stream);
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => self.connect().map_err(|e| format!("nobody listens: {e}"))?,
        };
        let sent =
            stream.write_all(&(bytes.len() as u64).to_le_bytes()).and_then(|()| stream.write_all(&bytes));
        sent.map_err(|e| format!("the question could not be sent: {e}"))?;
        let mut length = [0u8; 8];
        stream.read_exact(&mut length).map_err(|e| format!("there was no answer: {e}"))?;
        let length = u64::from_le_bytes(length);
        if length > ANSWER_BYTES_MAX {
            return Err(format!("the answer claims to be {length} bytes long"));
        }
        let mut answer = Vec::new();
        let taken = (&mut stream).take(length).read_to_end(&mut answer);
        taken.map_err(|e| format!("the answer broke off: {e}"))?;
        *connection = Some(stream);
        read_answer(&answer, question.x.len())
    }

    fn question(&self, question: &Reconstruction) -> Result<Vec<u8>, ArrowError> {
        let mut columns = vec![
            ("x".to_owned(), vectors(question.x, question.d)?),
            ("x_hat".to_owned(), vectors(question.x_hat, question.d)?),
        ];
        for (name, values) in self.names.iter().zip(question.beside) {
            columns.push((name.clone(), Arc::new(Float32Array::from(values.clone())) as ArrayRef));
        }
        let field = |(name, column): &(String, ArrayRef)| Field::new(name, column.data_type().clone(), true);
        let metadata = HashMap::from([("step".to_owned(), question.step.to_string())]);
        let schema = Schema::new_with_metadata(columns.iter().map(field).collect::<Vec<_>>(), metadata);
        let arrays = columns.into_iter().map(|(_, column)| column).collect();
        let batch = RecordBatch::try_new(Arc::new(schema), arrays)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
        writer.write(&batch)?;
        writer.finish()?;
        writer.into_inner()
    }
}

impl OutsideLoss for Socket {
    fn answer(&self, question: &Reconstruction) -> Option<Answer> {
        let remember = |reason: String| {
            lock(&self.failure).get_or_insert(format!("{reason} ({})", self.address));
        };
        self.ask(question).map_err(remember).ok()
    }

    fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }
}

fn vectors(values: &[f32], d: usize) -> Result<ArrayRef, ArrowError> {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let width = i32::try_from(d).map_err(|e| ArrowError::InvalidArgumentError(e.to_string()))?;
    Ok(Arc::new(FixedSizeListArray::try_new(
        item,
        width,
        Arc::new(Float32Array::from(values.to_vec())),
        None,
    )?))
}

/// `gradient`, as many numbers as were asked about, and `loss` in the metadata of the schema.
fn read_answer(bytes: &[u8], numbers: usize) -> Result<Answer, String> {
    let not = |e: ArrowError| format!("the answer is not an Arrow stream: {e}");
    let mut reader = StreamReader::try_new(bytes, None).map_err(not)?;
    let batch = reader.next().ok_or("the answer holds no batch")?.map_err(not)?;
    let loss = batch.schema_ref().metadata().get("loss").and_then(|loss| loss.parse().ok());
    let loss = loss.ok_or("the answer's schema has no metadata `loss` that is a number")?;
    let column = batch.column_by_name("gradient").ok_or("the answer has no column `gradient`")?;
    let lists = column.as_fixed_size_list_opt().ok_or("`gradient` is not a FixedSizeList")?;
    let values = lists.values().as_primitive_opt::<Float32Type>().ok_or("`gradient` is not of float32")?;
    let first = lists.value_offset_at(0);
    let gradient = values.values().get(first..first + numbers).filter(|_| column.null_count() == 0);
    let gradient = gradient.ok_or_else(|| format!("`gradient` does not hold {numbers} numbers"))?;
    Ok(Answer { loss, gradient: gradient.to_vec() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn answer(loss: Option<&str>, name: &str, gradient: &[f32], d: usize) -> Vec<u8> {
        let column = vectors(gradient, d).unwrap();
        let metadata: HashMap<String, String> =
            loss.map(|loss| ("loss".to_owned(), loss.to_owned())).into_iter().collect();
        let field = Field::new(name, column.data_type().clone(), true);
        let batch =
            RecordBatch::try_new(Arc::new(Schema::new_with_metadata(vec![field], metadata)), vec![column])
                .unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    /// A process that answers every question with the same bytes.
    fn serve(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("loss");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                let mut length = [0u8; 8];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0u8; usize::try_from(u64::from_le_bytes(length)).unwrap()];
                stream.read_exact(&mut question).unwrap();
                let batch = StreamReader::try_new(&question[..], None).unwrap().next().unwrap().unwrap();
                assert_eq!(batch.num_rows(), 2);
                assert_eq!(batch.schema().metadata()["step"], "7");
                assert_eq!(
                    batch.column_by_name("pos").unwrap().as_primitive::<Float32Type>().values()[1],
                    5.0
                );
                stream.write_all(&(answer.len() as u64).to_le_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        (directory, format!("unix:{}", path.display()))
    }

    fn ask(socket: &Socket) -> Option<Answer> {
        let (x, x_hat, beside) = ([1.0, 2.0, 3.0, 4.0], [0.5; 4], [vec![4.0, 5.0]]);
        socket.answer(&Reconstruction { step: 7, d: 2, x: &x, x_hat: &x_hat, beside: &beside })
    }

    #[test]
    fn questions_are_answered() {
        let g = [0.1, 0.2, 0.3, 0.4];
        let (_directory, address) = serve(vec![answer(Some("2.5"), "gradient", &g, 2)]);
        let socket = Socket::new(&address, vec!["pos".to_owned()]);
        assert_eq!(ask(&socket), Some(Answer { loss: 2.5, gradient: g.to_vec() }));
        assert_eq!(socket.failure(), None);
        assert_eq!(ask(&socket), None, "the other side has gone");
        assert!(socket.failure().is_some_and(|reason| reason.contains(&address)));
    }

    #[test]
    fn what_is_wrong_with_an_answer_is_said() {
        let g = [0.0; 4];
        for (bytes, said) in [
            (b"nonsense".to_vec(), "not an Arrow stream"),
            (answer(None, "gradient", &g, 2), "`loss`"),
            (answer(Some("1"), "grad", &g, 2), "no column `gradient`"),
            (answer(Some("1"), "gradient", &g[..2], 2), "4 numbers"),
        ] {
            let (_directory, address) = serve(vec![bytes]);
            let socket = Socket::new(&address, vec!["pos".to_owned()]);
            assert_eq!(ask(&socket), None);
            assert!(socket.failure().is_some_and(|reason| reason.contains(said)), "{:?}", socket.failure());
        }
    }

    #[test]
    fn nobody_there_is_told() {
        let socket = Socket::new("unix:/no/such/socket", vec!["pos".to_owned()]);
        assert_eq!(ask(&socket), None);
        assert!(socket.failure().is_some_and(|reason| reason.contains("nobody listens")));
    }
}
