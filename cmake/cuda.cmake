# Adds csrc/cuda to the target tadp_operators; included where TADP_CUDA says so.

# Has to be known before the language is enabled, which would otherwise choose the compiler's own default. Code for 8.0
# also runs on 8.6 and 8.7, for 10.0 on 10.3 and for 12.0 on 12.1; any other later GPU compiles the PTX of 8.0.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  include(CheckLanguage)
  check_language(CUDA)
  execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --list-gpu-code OUTPUT_VARIABLE TADP_GPU_CODES)
  set(CMAKE_CUDA_ARCHITECTURES 80)
  foreach(architecture 89 90 100 120)
    if(TADP_GPU_CODES MATCHES "sm_${architecture}")
      list(APPEND CMAKE_CUDA_ARCHITECTURES ${architecture}-real)
    endif()
  endforeach()
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

target_sources(tadp_operators PRIVATE csrc/cuda/linear_few_tokens.cu csrc/cuda/operators.cpp csrc/cuda/quantize.cu)
set_target_properties(
  tadp_operators
  PROPERTIES CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}"
             CUDA_STANDARD 20
             CUDA_STANDARD_REQUIRED ON
             CUDA_EXTENSIONS OFF
             CUDA_VISIBILITY_PRESET hidden)
# The runtime is linked statically: torch's may be of another version, and they share streams through the driver.
target_link_libraries(tadp_operators PRIVATE CUDA::cudart_static)

# The current stream comes from torch's CUDA half. It is the one symbol of it that is used, and a weak one, for which a
# linker that keeps only needed libraries would drop it.
find_library(TADP_TORCH_CUDA_LIBRARY torch_cuda PATHS "${TADP_TORCH_ROOT}/lib" NO_DEFAULT_PATH)
if(TADP_TORCH_CUDA_LIBRARY)
  target_link_libraries(tadp_operators PRIVATE -Wl,--no-as-needed "${TADP_TORCH_CUDA_LIBRARY}" -Wl,--as-needed)
endif()
