/** The engine's tests encode rows with ops of the runtime's test library. */
export { buildOpLibraries as default } from '../../../kernels/test/support/build-fixtures.js';
