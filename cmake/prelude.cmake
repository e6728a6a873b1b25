# The prelude of generated code is a C text; the library carries it as a string.
set(HFB_PRELUDE ${CMAKE_SOURCE_DIR}/src/compile/prelude.c.in)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${HFB_PRELUDE})
file(READ ${HFB_PRELUDE} prelude_text)
string(REPLACE "\\" "\\\\" prelude_text "${prelude_text}")
string(REPLACE "\"" "\\\"" prelude_text "${prelude_text}")
string(REPLACE "\n" "\\n\"\n\"" prelude_text "${prelude_text}")
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/prelude.c @ONLY
     CONTENT "#include \"compile/prelude.h\"\n\nconst char hfb_prelude_text[] =\n\"@prelude_text@\";\n")
target_sources(hfb PRIVATE ${CMAKE_BINARY_DIR}/generated/prelude.c)
