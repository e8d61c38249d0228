// The page: a list of runs, a run, and a form to start one, by what follows `#` in its address.
import { Refused, rememberToken } from './api.js';
import { element, fill } from './elements.js';
import { showRun } from './run-page.js';
import { showRuns } from './runs-page.js';
import { showStart } from './start-page.js';

const main = document.querySelector('main')!;

/** What the page shows is followed until it shows something else. */
let leave = new AbortController();

async function show(): Promise<void> {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  try {
    const path = decodeURIComponent(location.hash.replace(/^#\/?/, ''));
    if (path === 'start') await showStart(main);
    else if (path.startsWith('runs/')) await showRun(main, path.slice('runs/'.length), signal);
    else await showRuns(main, signal);
  } catch (error) {
    if (!signal.aborted) showFailure(error);
  }
}

function showFailure(error: unknown): void {
  if (error instanceof Refused && error.status === 401) {
    askForToken();
    return;
  }
  const reason = error instanceof Error ? error.message : String(error);
  fill(
    main,
    element('h1', {}, 'That did not work'),
    element('p', { role: 'alert', class: 'deck' }, reason),
    backLink(),
  );
}

const backLink = (): Element => element('p', {}, element('a', { href: '#/' }, 'All runs'));

function askForToken(): void {
  const input = element('input', { type: 'password', name: 'token', autocomplete: 'current-password', required: true });
  const submit = (event: Event): void => {
    event.preventDefault();
    rememberToken(input.value);
    void show();
  };
  const label = element('label', {}, 'Token of the service', input);
  fill(main, element('h1', {}, 'Who is there?'), element('form', { submit }, label, element('button', {}, 'Enter')));
  input.focus();
}

addEventListener('hashchange', () => void show());
void show();
