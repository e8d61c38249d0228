// How many images of a data set are done.
import { newBar, Throttle } from './bar.js';

const LINE_SECONDS = 10;

export interface ImageProgress {
  update(at: { done: number; total: number }): void;
  done(): void;
}

/** What is done with them: "decoding", "decoded". */
interface Words {
  readonly doing: string;
  readonly done: string;
}

/** On standard error: a bar on a terminal, else a line at once and then now and then. */
export function imageProgress(words: Words): ImageProgress {
  return process.stderr.isTTY ? bar(words) : lines(words);
}

function bar({ doing }: Words): ImageProgress {
  const shown = newBar(
    `${doing} {bar} {percentage}% · {value} of {total} images · {eta_formatted} left`,
    process.stderr,
  );
  let isStarted = false;
  return {
    update: ({ done, total }) => {
      if (isStarted) shown.update(done);
      else shown.start(total, done);
      isStarted = true;
    },
    done: () => shown.stop(),
  };
}

function lines({ done: verb }: Words): ImageProgress {
  const throttle = new Throttle(LINE_SECONDS);
  let isFirst = true;
  return {
    update: ({ done, total }) => {
      if (isFirst || throttle.due) process.stderr.write(`${done} of ${total} images ${verb}\n`);
      isFirst = false;
    },
    done: () => {},
  };
}
