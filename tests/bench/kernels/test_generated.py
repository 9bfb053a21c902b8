"""Reading what Inductor writes for a GPU, on a source as torch 2.14 writes it, cut down to what is read."""

from bench.kernels import generated

SOURCE = """
triton_red_fused_amax_native_layer_norm_round_0 = async_compile.triton('triton_red_fused_amax_native_layer_norm_round_0', '''
@triton_heuristics.reduction(
    triton_meta={'signature': {'in_ptr0': '*bf16', 'out_ptr1': '*fp32', 'out_ptr2': '*i8', 'out_ptr3': '*i8', 'xnumel': 'i32', 'R0_BLOCK': 'constexpr'}, 'device': 0},
)
@triton.jit
def triton_red_fused_amax_native_layer_norm_round_0(in_ptr0, out_ptr1, out_ptr2, out_ptr3, xnumel, R0_BLOCK):
    tmp0 = tl.load(in_ptr0 + (r0_1 + 64*x0), r0_mask)
    tl.store(out_ptr1 + (r0_1 + 64*x0), tmp0, r0_mask)
    tmp1 = tl.load(out_ptr1 + (r0_1 + 64*x0), r0_mask)
    tl.store(out_ptr2 + (r0_1 + 64*x0), tmp1, r0_mask)
    tl.store(out_ptr3 + (r0_1 + 64*x0), tmp1, r0_mask)
''', device_str='cuda')


triton_poi_fused_add_1 = async_compile.triton('triton_poi_fused_add_1', '''
@triton_heuristics.pointwise(
    triton_meta={'signature': {'in_out_ptr0': '*bf16', 'in_ptr0': '*bf16', 'xnumel': 'i32'}, 'device': 0},
)
@triton.jit
def triton_poi_fused_add_1(in_out_ptr0, in_ptr0, xnumel, XBLOCK : tl.constexpr):
    tmp0 = tl.load(in_out_ptr0 + (x0), None)
    tl.store(in_out_ptr0 + (x0), tmp0, None)
''', device_str='cuda')

class Runner:
    def call(self, args):
            buf1 = empty_strided_cuda((1, 10, 64), (640, 64, 1), torch.float32)
            buf2 = empty_strided_cuda((1, 10, 64), (640, 64, 1), torch.int8)
            buf3 = empty_strided_cuda((1, 10, 64), (640, 64, 1), torch.int8)
            triton_red_fused_amax_native_layer_norm_round_0.run(arg0_1, buf1, buf2, buf3, 10, stream=raw_stream0)
            buf4 = torch.ops.tadp.linear.default(buf2, buf3)
            assert_tensor_metadata(buf4, (1, 10, 128), (1280, 128, 1), torch.bfloat16, 'torch.ops.tadp.linear.default')
            buf5 = buf4; del buf4  # reuse
            triton_poi_fused_add_1.run(buf5, arg0_1, 1280, stream=raw_stream0)
            buf6 = reinterpret_tensor(buf1, (5, 64), (64, 1), 0); del buf1  # reuse
            triton_poi_fused_add_1.run(buf6, arg0_1, 320, stream=raw_stream0)
"""  # noqa: E501


def test_says_of_each_kernel_what_it_stores() -> None:
    fused, added = generated.kernels_of(SOURCE).values()
    assert fused.normalizes
    assert fused.quantizes
    assert fused.scratch == {"out_ptr1"}
    assert fused.type_of("out_ptr1") == "fp32"
    assert not added.normalizes
    assert not added.quantizes
    assert added.scratch == frozenset()


def test_counts_launches_and_the_bytes_they_store() -> None:
    first, second, third = generated.launches_of(SOURCE)
    assert first.copies_of_codes == 2
    assert first.stored_bytes() == 640 * (4 + 1 + 1)
    assert first.stored_bytes(first.kernel.scratch) == 640 * 4
    assert second.kernel == third.kernel
    assert second.stored_bytes() == 1280 * 2
    assert third.stored_bytes() == 320 * 2
