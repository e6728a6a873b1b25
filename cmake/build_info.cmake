# What the program says about itself: version, compiler, build type. The commit is looked up at every build, by a
# script that rewrites its output only when the commit changed.
set(HFB_BUILD_COMMIT_FILE ${CMAKE_BINARY_DIR}/generated/build_commit.inc)
add_custom_target(hfb_build_commit
  COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${CMAKE_SOURCE_DIR} -DOUTPUT=${HFB_BUILD_COMMIT_FILE}
          -P ${CMAKE_SOURCE_DIR}/cmake/write_commit.cmake
  BYPRODUCTS ${HFB_BUILD_COMMIT_FILE}
  COMMENT "")
add_dependencies(hfb hfb_build_commit)
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/base/build.c PROPERTIES
  INCLUDE_DIRECTORIES ${CMAKE_BINARY_DIR}/generated
  OBJECT_DEPENDS ${HFB_BUILD_COMMIT_FILE}
  COMPILE_DEFINITIONS
  "HFB_BUILD_VERSION=\"${PROJECT_VERSION}\";HFB_BUILD_TYPE=\"${CMAKE_BUILD_TYPE}\";HFB_BUILD_SANITIZE=\"${HFB_SANITIZE}\"")
