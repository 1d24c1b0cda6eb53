//! Kernels as CUDA text, without a card: a runtime that compiles every kernel it is asked to run, for compute
//! capability 9.0 and with the compiler and options of the CUDA runtime, and keeps the text instead of running it.
//! What is read from it is zeros.
//!
//! For tests: a kernel that NVRTC would refuse on a card is refused where there is none.

mod nvrtc;
mod properties;

use std::sync::{Arc, Mutex, PoisonError};

use cubecl::{
    CubeTask, ExecutionMode, MemoryUsage, Runtime,
    backtrace::BackTrace,
    bytes::Bytes,
    client::ComputeClient,
    device::{Device, DeviceId, DeviceService, ServerUtilitiesHandle},
    future::DynFut,
    ir::TargetProperties,
    prelude::CubeCount,
    profile::ProfileDuration,
    server::{
        Binding, ComputeServer, CopyDescriptor, KernelArguments, ProfileError, ProfilingToken,
        ServerCommunication, ServerError, ServerUtilities,
    },
    stream_id::StreamId,
    zspace::{Shape, Strides, striding::has_pitched_row_major_strides},
};
use cubecl_cpp::shared::{CompilationOptions, CppSupportedFeatures};
use cubecl_cuda::{CudaCompiler, CudaRuntime};
use cubecl_runtime::{
    allocator::PitchedMemoryLayoutPolicy,
    logging::ServerLogger,
    memory_management::{ManagedMemoryHandle, MemoryAllocationMode},
    storage::{BytesResource, BytesStorage, ManagedResource},
};

pub use nvrtc::{Missing, compile};

/// A kernel as CUDA text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its name in the text.
    pub name: String,
    /// The text.
    pub source: String,
}

static LAUNCHED: Mutex<Vec<Result<Text, String>>> = Mutex::new(Vec::new());

/// What was launched since the last call, in order, each text once; or why a kernel has no text. Launches are
/// queued: flush the client before. (The types at the top of a text come in any order.)
pub fn launched() -> Vec<Result<Text, String>> {
    let mut all = std::mem::take(&mut *LAUNCHED.lock().unwrap_or_else(PoisonError::into_inner));
    let mut seen = std::collections::HashSet::new();
    all.retain(|text| {
        let source = text.as_ref().map_or("", |text| &text.source);
        let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        text.is_err() || seen.insert(lines)
    });
    all
}

/// The only device there is.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct NoDevice;

impl Device for NoDevice {
    fn from_id(_: DeviceId) -> Self {
        NoDevice
    }

    fn to_id(&self) -> DeviceId {
        DeviceId::new(0, 0)
    }
}

/// The runtime.
#[derive(Clone, Debug)]
pub struct CudaText;

impl Runtime for CudaText {
    type Compiler = CudaCompiler;
    type Server = TextServer;
    type Device = NoDevice;

    fn client(device: &NoDevice) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        "cuda-text"
    }

    fn require_array_lengths() -> bool {
        true
    }

    fn max_cube_count() -> (u32, u32, u32) {
        CudaRuntime::max_cube_count()
    }

    fn can_read_tensor(shape: &Shape, strides: &Strides) -> bool {
        has_pitched_row_major_strides(shape, strides)
    }

    fn target_properties() -> TargetProperties {
        CudaRuntime::target_properties()
    }

    fn enumerate_devices(_: u16, (): &()) -> Vec<DeviceId> {
        vec![DeviceId::new(0, 0)]
    }
}

/// Who takes orders instead of a card.
#[derive(Debug)]
pub struct TextServer {
    utilities: Arc<ServerUtilities<Self>>,
    options: CompilationOptions,
}

impl DeviceService for TextServer {
    fn init(_: DeviceId) -> Self {
        let properties = properties::hopper();
        #[allow(clippy::cast_possible_truncation, reason = "512")]
        let policy = PitchedMemoryLayoutPolicy::new(properties.memory.alignment as usize);
        let supports_features = CppSupportedFeatures {
            fast_math: true,
            grid_constants: true,
            clusters: true,
            elect_sync: true,
            fast_tanh: true,
        };
        let utilities = ServerUtilities::new(properties, Arc::new(ServerLogger::default()), (), policy);
        TextServer {
            utilities: Arc::new(utilities),
            options: CompilationOptions { warp_size: 32, supports_features },
        }
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl ServerCommunication for TextServer {
    const SERVER_COMM_ENABLED: bool = false;
}

impl ComputeServer for TextServer {
    type Kernel = Box<dyn CubeTask<CudaCompiler>>;
    type Info = ();
    type MemoryLayoutPolicy = PitchedMemoryLayoutPolicy;
    type Storage = BytesStorage;

    fn initialize_memory(&mut self, _: ManagedMemoryHandle, _: u64, _: StreamId) {}

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn read(&mut self, what: Vec<CopyDescriptor>, _: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let len = |of: &CopyDescriptor| of.shape.iter().product::<usize>() * of.elem_size;
        let zeros = what.iter().map(|of| Bytes::from_bytes_vec(vec![0; len(of)])).collect();
        Box::pin(async move { Ok(zeros) })
    }

    fn write(&mut self, _: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {}

    fn sync(&mut self, _: StreamId) -> DynFut<Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
    }

    fn get_resource(
        &mut self,
        _: Binding,
        _: StreamId,
    ) -> Result<ManagedResource<BytesResource>, ServerError> {
        Err(ServerError::Generic { reason: "no memory".to_owned(), backtrace: BackTrace::capture() })
    }

    unsafe fn launch(
        &mut self,
        kernel: Self::Kernel,
        _: CubeCount,
        _: KernelArguments,
        mode: ExecutionMode,
        _: StreamId,
    ) {
        let address = kernel.address_type();
        let text = kernel
            .compile(&mut Default::default(), &self.options, mode, address)
            .map(|kernel| Text { name: kernel.entrypoint_name, source: kernel.source })
            .map_err(|error| error.to_string());
        LAUNCHED.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn memory_usage(&mut self, _: StreamId) -> Result<MemoryUsage, ServerError> {
        Ok(MemoryUsage { number_allocs: 0, bytes_in_use: 0, bytes_padding: 0, bytes_reserved: 0 })
    }

    fn memory_cleanup(&mut self, _: StreamId) {}

    fn start_profile(&mut self, _: StreamId) -> Result<ProfilingToken, ServerError> {
        Ok(ProfilingToken { id: 0 })
    }

    fn end_profile(&mut self, _: StreamId, _: ProfilingToken) -> Result<ProfileDuration, ProfileError> {
        Err(ProfileError::Unknown { reason: "no clock".to_owned(), backtrace: BackTrace::capture() })
    }

    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}
}
