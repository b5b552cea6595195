// What package linters say of the tarball whose path is the only argument. Prints nothing when all is well.
import { readFile } from 'node:fs/promises'
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'

const tarball = await readFile(process.argv[2])
const { messages, pkg } = await publint({ pack: { tarball: new Uint8Array(tarball).buffer }, strict: true })
for (const message of messages) console.log(formatMessage(message, pkg))

// ES modules alone: that a CommonJS file must import() them is known.
const { problems } = await checkPackage(createPackageFromTarballData(new Uint8Array(tarball)))
for (const problem of problems ?? []) if (problem.kind !== 'CJSResolvesToESM') console.log(problem)
