/** The conversation, with streamed answers. Independent of Wattfare. */

/** @type {{role: string, content: string}[]} */
const messages = []
const list = /** @type {HTMLElement} */ (document.getElementById('talk'))

/** @param {string} text @param {string} kind */
export function line(text, kind) {
  const item = document.createElement('li')
  item.className = kind
  item.textContent = text
  list.append(item)
  item.scrollIntoView({ block: 'end' })
  return item
}

/**
 * Send a question to the backend and show the streamed answer. Throws the backend's error envelope.
 * @param {string} text
 * @param {{grant?: string, model?: string}} more
 */
export async function ask(text, more) {
  line(text, 'mine')
  const item = line('', 'theirs')
  const asked = [...messages, { role: 'user', content: text }]
  try {
    const response = await fetch('/api/chat', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ messages: asked, ...more }),
    })
    if (!response.ok) throw await response.json()
    await read(response, item)
    messages.push(...asked.slice(-1), { role: 'assistant', content: item.textContent ?? '' })
  } catch (error) {
    if (!item.textContent) item.remove()
    throw error
  }
}

/** @param {Response} response @param {HTMLElement} item */
async function read(response, item) {
  const reader = /** @type {ReadableStream<BufferSource>} */ (response.body).pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const lines = (rest + piece.value).split('\n')
    rest = lines.pop() ?? ''
    for (const each of lines) {
      const said = JSON.parse(each)
      if (said.error) throw said
      item.append(said.text)
      item.scrollIntoView({ block: 'end' })
    }
  }
}
