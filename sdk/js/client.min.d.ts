/** Types of the minified build, which is client.js. */
export * from './client.js';
