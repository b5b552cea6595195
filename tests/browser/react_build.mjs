// Prints, as JSON, the page's script and the markups of its server rendering, with and without `loadOnMount`.
import { buildSync } from 'esbuild'
import { createElement } from 'react'
import { renderToString } from 'react-dom/server'
import { App } from './react_app.mjs'

const contents = `import { createElement } from 'react'
import { hydrateRoot } from 'react-dom/client'
import { App } from './react_app.mjs'
const options = JSON.parse(document.getElementById('options').textContent)
hydrateRoot(document.getElementById('root'), createElement(App, { options }))`
const { outputFiles } = buildSync({
  stdin: { contents, resolveDir: process.cwd() },
  bundle: true,
  format: 'esm',
  write: false,
  define: { 'process.env.NODE_ENV': '"development"' },
})
const rendered = (loadOnMount) =>
  renderToString(createElement(App, { options: { publishableKey: 'pk_test_x', session: '/session', loadOnMount } }))
const script = outputFiles[0].text.replaceAll('</script', '<\\/script')
console.log(JSON.stringify({ script, markups: { true: rendered(true), false: rendered(false) } }))
