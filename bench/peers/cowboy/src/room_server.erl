%% The peer `cowboy`: Erlang/OTP and Cowboy, speaking the protocol of ../../README.md.
%%
%% Bound of a receiver that does not read: 4 MiB in its socket's send queue (high_watermark). A connection whose queue
%% stays full for a second (send_timeout) is closed; what comes for it in that second waits in its process's mailbox.
%%
%% The choices, and why they are the fastest that a user of this library would write:
%%
%% * One process a connection, as Cowboy has it. Membership is in `pg`, OTP's own process groups: a broadcast is a list
%%   of processes out of ETS and one message to each, whose text they share since binaries of more than 64 bytes are
%%   counted references. `pg` watches its members, so those that crash leave too.
%% * A connection that wakes takes all that waits in its mailbox and hands Cowboy one list of frames, which it sends at
%%   once.
%% * The send queue is as large as the bound, so that a burst does not stop the process at the default of 8 KiB.
%% * A connection hibernates after it joined: its process is compacted where it is likely to idle, and no message of
%%   the steady state pays for it.
%% * Cowboy's idle timeout is off, as no peer drops silent clients. The emulator runs without busy waiting (emulator.args):
%%   it would be counted as the server's CPU.
-module(room_server).
-export([start/0]).

-define(SEND_QUEUE_BYTES_MAX, 4 * 1024 * 1024).
-define(SEND_TIMEOUT_MS, 1000).
-define(LISTEN_BACKLOG, 4096).

%% Runs `--listen ADDRESS:PORT` out of the plain arguments.
start() ->
    {Address, Port} = listen_address(init:get_plain_arguments()),
    {ok, _} = application:ensure_all_started(cowboy),
    {ok, _} = pg:start(rooms_connection:groups()),
    Dispatch = cowboy_router:compile([{'_', [
        {"/echo", echo_connection, []},
        {"/rooms", rooms_connection, []}
    ]}]),
    {ok, Parsed} = inet:parse_address(Address),
    SocketOptions = [
        {ip, Parsed},
        {port, Port},
        {nodelay, true},
        {backlog, ?LISTEN_BACKLOG},
        {high_watermark, ?SEND_QUEUE_BYTES_MAX},
        {low_watermark, ?SEND_QUEUE_BYTES_MAX div 2},
        {send_timeout, ?SEND_TIMEOUT_MS},
        {send_timeout_close, true}
    ],
    {ok, _} = cowboy:start_clear(
        peer,
        #{socket_opts => SocketOptions, max_connections => infinity},
        #{env => #{dispatch => Dispatch}}
    ),
    io:format("listening on ws://~s:~b~n", [Address, Port]).

listen_address(["--listen", Listen]) ->
    [Address, Port] = string:split(Listen, ":", trailing),
    {Address, list_to_integer(Port)}.
