import { globSync, readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';
import { parse } from 'yaml';

/** One workflow: a file, or a block of a documentation page that starts after `offset` lines. */
interface Workflow {
  path: string;
  text: string;
  offset: number;
}
interface Job {
  needs?: string | string[];
  steps?: { id?: string }[];
  uses?: string;
  strategy?: { matrix?: string | (Record<string, unknown> & { include?: object[] }) };
}
interface Problem {
  line: number;
  column: number;
  message: string;
}

// The parser imports its schema without the import attribute that Node requires.
registerHooks({
  load: (url, context, next) =>
    next(
      url,
      url.includes('/@actions/workflow-parser/') && url.endsWith('.json')
        ? { ...context, importAttributes: { type: 'json' } }
        : context,
    ),
});
const { NoOperationTraceWriter, convertWorkflowTemplate, parseWorkflow } = await import('@actions/workflow-parser');

/** Returns the names that a job's expressions may use after `steps.`, `needs.` and `matrix.`. */
function namesOf({ needs = [], steps = [], strategy }: Job): Record<string, Set<string> | undefined> {
  const matrix = strategy?.matrix;
  return {
    steps: new Set(steps.flatMap(({ id }) => id ?? [])),
    needs: new Set([needs].flat()),
    // An expression makes this matrix: its keys are known only when it runs.
    matrix:
      typeof matrix === 'string'
        ? undefined
        : new Set([...Object.keys(matrix ?? {}), ...(matrix?.include ?? []).flatMap(one => Object.keys(one))]),
  };
}

/** Returns the problems that GitHub's parser accepts: names that no step, job or matrix has, and jobs that do nothing. */
function unknownNames(text: string): Problem[] {
  const { jobs } = parse(text) as { jobs: Record<string, Job> };
  const problems: Problem[] = [];
  const report = (needle: string, message: string): void => {
    const before = text.slice(0, Math.max(0, text.indexOf(needle))).split('\n');
    problems.push({ line: before.length, column: (before.at(-1)?.length ?? 0) + 1, message });
  };
  for (const [id, job] of Object.entries(jobs)) {
    const names = namesOf(job);
    if (job.steps === undefined && job.uses === undefined) report(`${id}:`, `Job '${id}' has neither steps nor uses.`);
    for (const [expression] of JSON.stringify(job).matchAll(/\$\{\{.*?\}\}|"if":"(?:\\.|[^"])*"/g))
      for (const [found, context = '', name = ''] of expression.matchAll(/\b(steps|needs|matrix)\.([\w-]+)/g))
        if (names[context]?.has(name) === false) report(found, `Job '${id}' has no '${found}'.`);
  }
  return problems;
}

/** Checks a workflow with GitHub's own parser, and the names in its expressions. Resolves to its problems in order. */
export async function problemsOf(path: string, text: string): Promise<Problem[]> {
  const { context, value } = parseWorkflow({ name: path, content: text }, new NoOperationTraceWriter());
  if (value !== undefined) await convertWorkflowTemplate(context, value);
  const errors = context.errors.getErrors().map(({ rawMessage, range }) => ({
    line: range?.start.line ?? 1,
    column: range?.start.column ?? 1,
    message: rawMessage.split('\n', 1)[0] ?? '',
  }));
  return errors.length > 0 ? errors : unknownNames(text);
}

/** Reads the workflows of this repository, and those that the documentation shows. */
function workflows(): Workflow[] {
  const read = (path: string): string => readFileSync(path, 'utf8');
  const files = globSync('.github/workflows/*.{yml,yaml}').map(path => ({ path, text: read(path), offset: 0 }));
  const shown = globSync('{README.md,docs/**/*.md}').flatMap(path =>
    [...read(path).matchAll(/^```yaml workflow\n(.*?)^```/gms)].map(({ 1: text = '', index }) => ({
      path,
      text,
      offset: read(path).slice(0, index).split('\n').length,
    })),
  );
  return [...files, ...shown];
}

async function main(): Promise<number> {
  const all = workflows();
  let count = 0;
  for (const { path, text, offset } of all)
    for (const { line, column, message } of await problemsOf(path, text)) {
      console.log(`${path}:${line + offset}:${column}: ${message}`);
      count += 1;
    }
  console.log(`${all.length} workflows, ${count} problems`);
  return count === 0 && all.length > 0 ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exitCode = await main();
