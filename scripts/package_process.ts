/**
 * Stands for `node:process` in the npm package. In Node the import of that module takes 6 ms, as it creates
 * the standard streams, and the global object is the same.
 */
export default globalThis.process;
