/* The runtime of `.vnmodel` files, an open format of the AMC plug-ins project (docs/vnmodel.md). It keeps the name that the
 * original AMC gave its files; it is not, and cannot be verified to be, the format of Huya's Venus engine.
 *
 * Plain C. No exception leaves the library. A model may be used from several threads at a time. */
#ifndef VN_H
#define VN_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(VN_SHARED)
#if defined(VN_BUILDING)
#define VN_API __declspec(dllexport)
#else
#define VN_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define VN_API __attribute__((visibility("default")))
#else
#define VN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define VN_MAX_RANK 8

/* Element types. A bool is one byte, 0 or 1; f16 and bf16 are their bits. */
typedef enum { VN_F32, VN_F16, VN_BF16, VN_F64, VN_I8, VN_U8, VN_I16, VN_I32, VN_I64, VN_BOOL } vn_dtype;

/* A tensor in row-major order. `shape[i]` is -1 in what `vn_input` says of a dimension that may change between runs. */
typedef struct {
    vn_dtype dtype;
    int32_t rank;
    int64_t shape[VN_MAX_RANK];
    const void *data;
} vn_tensor;

typedef struct vn_model vn_model;
typedef struct vn_result vn_result;

/* Opens a file: every check of the format's specification, then the ops, before anything is mapped for use. Returns 0, or 1 when
 * it is refused. `*model` is a handle in both cases (NULL only without memory): `vn_last_error` says why, `vn_close` frees it. */
VN_API int vn_open(const char *path, vn_model **model);

/* The same of a copy of `size` bytes. */
VN_API int vn_open_mem(const void *data, size_t size, vn_model **model);

/* Frees a handle. NULL is allowed; results outlive it. */
VN_API void vn_close(vn_model *model);

/* The last error of the calling thread with this handle: a message that ends in "[CODE at place]", and its code, one of the
 * specification's or INPUT, MEMORY, ARGUMENT. "" when there is none. Valid until the thread's next call with the handle. */
VN_API const char *vn_last_error(const vn_model *model);
VN_API const char *vn_last_error_code(const vn_model *model);

/* Inputs and outputs: how many, their names, and type and shape of an input (`data` is NULL). Outputs are the values of the
 * network's output structure in order. Names live as long as the handle. NULL, or 1, for an index that there is not. */
VN_API size_t vn_input_count(const vn_model *model);
VN_API size_t vn_output_count(const vn_model *model);
VN_API const char *vn_input_name(const vn_model *model, size_t index);
VN_API const char *vn_output_name(const vn_model *model, size_t index);
VN_API int vn_input(const vn_model *model, size_t index, vn_tensor *input);

/* What the file says of its deployment: a number of the application's, and height and width, or 0 and 0. */
VN_API uint32_t vn_model_id(const vn_model *model);
VN_API void vn_base_size(const vn_model *model, int64_t *height, int64_t *width);

/* Shares the work of each later run among `count` threads (1 at first, at most 256), the caller's among them; outputs are the same
 * bits whatever their number. Returns 0, or 1 and sets the error. */
VN_API int vn_set_threads(vn_model *model, int32_t count);

/* Runs the network on `count` inputs in the order of the file. Returns 0 and a result, or 1 and sets the error. */
VN_API int vn_run(vn_model *model, const vn_tensor *inputs, size_t count, vn_result **result);

/* An output, valid until the result is freed. An output that is an integer is an i64 without dimensions. */
VN_API size_t vn_result_count(const vn_result *result);
VN_API int vn_result_get(const vn_result *result, size_t index, vn_tensor *output);
VN_API void vn_result_free(vn_result *result);

/* The ids of the ops that this build runs, `index` from 0 on; NULL behind the last. */
VN_API const char *vn_op_id(size_t index);

/* "1.0 reference" or "1.0 xnnpack": the version of the format, and the kernels. */
VN_API const char *vn_version(void);

#ifdef __cplusplus
}
#endif

#endif
