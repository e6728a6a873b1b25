# Kernel sources are compiled for the instruction set that their folder names; the table in src/kernels picks one at
# run time, so nothing outside src/kernels/cpu/<isa>/ may use more than the baseline. Other processors than x86-64
# leave these folders out.
set(HFB_ISA_FLAGS_avx2 -mavx2 -mfma -ffp-contract=fast)
set(HFB_ISA_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -ffp-contract=fast)
set(HFB_ISA_FLAGS_avx512_bf16 ${HFB_ISA_FLAGS_avx512} -mavx512bf16)
set(HFB_ISA_FLAGS_amx ${HFB_ISA_FLAGS_avx512_bf16} -mamx-tile -mamx-bf16)
foreach(isa avx2 avx512 avx512_bf16 amx)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    set(isa_sources ${HFB_SOURCES})
    list(FILTER isa_sources INCLUDE REGEX "src/kernels/cpu/${isa}/")
    set_source_files_properties(${isa_sources} PROPERTIES COMPILE_OPTIONS "${HFB_ISA_FLAGS_${isa}}")
  else()
    list(FILTER HFB_SOURCES EXCLUDE REGEX "src/kernels/cpu/${isa}/")
  endif()
endforeach()
