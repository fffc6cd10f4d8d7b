"""The compiled kernel of cram_hf/runtime, built where there is a C++ compiler; everything else is in setup.cfg."""

from setuptools import Extension, setup

# A plain shared library, loaded with ctypes: it needs neither Python's headers nor PyTorch's. Never -march=native: it
# holds code for several instruction sets and asks the processor at run time. Never -ffast-math.
setup(
    ext_modules=[
        Extension(
            "cram_hf.runtime._kernel",
            sources=["cram_hf/runtime/kernel.cpp"],
            language="c++",
            extra_compile_args=["-O3", "-g0", "-DNDEBUG", "-std=c++17", "-pthread"],
            extra_link_args=["-pthread"],
            optional=True,
        )
    ]
)
