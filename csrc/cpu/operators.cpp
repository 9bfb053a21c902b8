#include "operators.h"

#include <torch/csrc/stable/library.h>

#include <string>

#include "isa.h"

namespace tadp {
namespace {

std::string cpu_isa() { return isa_name(active_isa()); }

std::string force_cpu_isa(std::string name) { return force_isa(name); }

}  // namespace
}  // namespace tadp

STABLE_TORCH_LIBRARY_IMPL(tadp, CPU, library) {
  library.impl("quantize", TORCH_BOX(&tadp::quantize));
  library.impl("rotate", TORCH_BOX(&tadp::rotate));
  library.impl("linear", TORCH_BOX(&tadp::linear));
  library.impl("weight_only_linear", TORCH_BOX(&tadp::weight_only_linear));
  library.impl("dequantize", TORCH_BOX(&tadp::dequantize));
  library.impl("attention", TORCH_BOX(&tadp::attention));
}

STABLE_TORCH_LIBRARY_IMPL(tadp, CompositeExplicitAutograd, library) {
  library.impl("cpu_isa", TORCH_BOX(&tadp::cpu_isa));
  library.impl("force_cpu_isa", TORCH_BOX(&tadp::force_cpu_isa));
}
