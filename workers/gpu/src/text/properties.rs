//! What a card of compute capability 9.0 can do, as the CUDA runtime of CubeCL registers it.

use cubecl::{
    ir::{
        BarrierLevel, DeviceProperties, ElemType, FloatKind, HardwareProperties, MemoryDeviceProperties,
        OpaqueType, SemanticType, StorageType, Type, VectorSize,
        features::{AtomicUsage, Plane, Tma, TypeUsage},
    },
    profile::TimingMethod,
};
use cubecl_cpp::{
    DialectWmmaCompiler,
    cuda::{arch::CudaArchitecture, mma::CudaWmmaCompiler},
    register_supported_types,
    shared::{register_mma_features, register_scaled_mma_features, register_wmma_features},
};

/// An H100 or H200.
pub(super) fn hopper() -> DeviceProperties {
    let memory = MemoryDeviceProperties { max_page_size: 35 << 30, alignment: 512 };
    let mut all = DeviceProperties::new(Default::default(), memory, hardware(), TimingMethod::System);
    register_supported_types(&mut all);
    all.register_type_usage(ElemType::Float(FloatKind::TF32), TypeUsage::Conversion);
    for kind in [FloatKind::F64, FloatKind::F16] {
        let of = Type::new(StorageType::Atomic(ElemType::Float(kind)));
        all.register_atomic_type_usage(of, AtomicUsage::Add | AtomicUsage::LoadStore);
    }
    for level in [BarrierLevel::Unit, BarrierLevel::Cube] {
        all.register_type_usage(OpaqueType::Barrier(level), TypeUsage::Buffer);
    }
    for kind in [FloatKind::F16, FloatKind::BF16] {
        all.features.matmul.ldmatrix.insert(ElemType::Float(kind).into());
        all.features.matmul.stmatrix.insert(ElemType::Float(kind).into());
    }
    for semantic in [SemanticType::Pipeline, SemanticType::TensorMap] {
        all.register_semantic_type(semantic);
    }
    for plane in [Plane::Sync, Plane::Ops, Plane::NonUniformControlFlow] {
        all.features.plane.insert(plane);
    }
    all.features.tma.insert(Tma::Base);
    all.features.copy_async = true;
    all.features.cube_cluster = true;
    all.features.memory_reinterpret = true;
    all.features.alignment = true;
    let arch = CudaArchitecture { version: 90 };
    register_wmma_features(CudaWmmaCompiler::supported_wmma_combinations(&arch), &mut all);
    register_mma_features(CudaWmmaCompiler::supported_mma_combinations(&arch), &mut all);
    register_scaled_mma_features(CudaWmmaCompiler::supported_scaled_mma_combinations(&arch), &mut all);
    all
}

fn hardware() -> HardwareProperties {
    HardwareProperties {
        load_width: 128,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 1024,
        max_shared_memory_size: 227 << 10,
        max_cube_count: (i32::MAX as u32, 65_535, 65_535),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: Some(132),
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        num_cpu_cores: None,
        max_vector_size: VectorSize::MAX,
    }
}
