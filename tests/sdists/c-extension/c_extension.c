#include <Python.h>

static PyObject *answer(PyObject *self, PyObject *ignored)
{
    return PyLong_FromLong(42);
}

static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "c_extension", NULL, -1, methods};

PyMODINIT_FUNC PyInit_c_extension(void)
{
    return PyModule_Create(&module);
}
