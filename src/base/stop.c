#include "base/stop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
#define SIGNALS (sizeof signals / sizeof *signals)

static struct sigaction earlier[SIGNALS];
static bool taken[SIGNALS];
static atomic_int asked; /* lock-free, so a handler may use it and every thread sees it */

static void on_signal(int number)
{
    int none = 0;

    if (atomic_compare_exchange_strong(&asked, &none, number) || number != SIGINT)
        return;
    signal(SIGINT, SIG_DFL);
    raise(SIGINT); /* is blocked while this handler runs, strikes when it returns */
}

void stop_ignore_broken_output(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

void stop_install(void)
{
    struct sigaction action = {.sa_handler = on_signal,
                               .sa_flags = SA_RESTART}; /* a checkpoint being written is not to see EINTR */

    stop_uninstall();
    atomic_store(&asked, 0);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < SIGNALS; i++)
        if (sigaction(signals[i], NULL, &earlier[i]) == 0 && earlier[i].sa_handler != SIG_IGN)
            taken[i] = sigaction(signals[i], &action, NULL) == 0;
}

void stop_uninstall(void)
{
    for (size_t i = 0; i < SIGNALS; i++) {
        if (taken[i])
            sigaction(signals[i], &earlier[i], NULL);
        taken[i] = false;
    }
}

bool stop_requested(void)
{
    return atomic_load(&asked) != 0;
}

int stop_signal(void)
{
    return atomic_load(&asked);
}
