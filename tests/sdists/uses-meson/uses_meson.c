#include <Python.h>

static PyObject *answer(PyObject *self, PyObject *ignored)
{
    return PyLong_FromLong(42);
}

static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "uses_meson", NULL, -1, methods};

PyMODINIT_FUNC PyInit_uses_meson(void)
{
    return PyModule_Create(&module);
}
