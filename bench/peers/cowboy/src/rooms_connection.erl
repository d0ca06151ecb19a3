%% A WebSocket on /rooms. Its process is a member of one `pg` group for each of its rooms and for its name.
-module(rooms_connection).
-behaviour(cowboy_websocket).
-export([groups/0, websocket_options/0]).
-export([init/2, websocket_init/1, websocket_handle/2, websocket_info/2]).

-define(MESSAGE_BYTES_MAX, 1024 * 1024).
-define(NAME_BYTES_MAX, 64).
-define(UNSUPPORTED_DATA, 1003).

-record(state, {
    name = none :: none | binary(),
    rooms = #{} :: #{binary() => []}
}).

%% The scope of `pg` that holds the groups {room, Name} and {user, Name}.
groups() ->
    ?MODULE.

websocket_options() ->
    #{compress => false, idle_timeout => infinity, max_frame_size => ?MESSAGE_BYTES_MAX}.

init(Request, _) ->
    {cowboy_websocket, Request, none, websocket_options()}.

websocket_init(_) ->
    {[], #state{}}.

websocket_handle({text, Message}, State) ->
    [Command | Arguments] = binary:split(Message, <<" ">>),
    obey(Command, split_arguments(Arguments), Message, State);
websocket_handle({binary, _}, State) ->
    refuse(State);
websocket_handle(_PingOrPong, State) ->
    {[], State}.

websocket_info({deliver, Message}, State) ->
    {[{text, Message} | waiting()], State};
websocket_info({'EXIT', Port, _}, State) when is_port(Port) ->
    %% The send timeout closed the socket.
    {stop, State};
websocket_info(_Other, State) ->
    {[], State}.

%% The argument of a command and whether a text follows it, or `invalid`.
split_arguments([Arguments]) ->
    [Name | Text] = binary:split(Arguments, <<" ">>),
    case is_name(Name) of
        true -> {Name, Text =/= []};
        false -> invalid
    end;
split_arguments([]) ->
    invalid.

obey(<<"login">>, {Name, false}, Message, State) ->
    {[{text, Message}], login(Name, State), hibernate};
obey(<<"join">>, {Room, false}, Message, State) ->
    {[{text, Message}], join(Room, State), hibernate};
obey(<<"send">>, {Room, true}, Message, State) ->
    deliver(pg:get_members(groups(), {room, Room}), Message),
    {[], State};
obey(<<"direct">>, {Name, true}, Message, State) ->
    %% The one that logged in last stands first.
    deliver(lists:sublist(pg:get_members(groups(), {user, Name}), 1), Message),
    {[], State};
obey(_, _, _, State) ->
    refuse(State).

login(Name, #state{name = Former} = State) ->
    Former =:= none orelse pg:leave(groups(), {user, Former}, self()),
    ok = pg:join(groups(), {user, Name}, self()),
    State#state{name = Name}.

%% `pg` would count a second join as a second membership.
join(Room, #state{rooms = Rooms} = State) when is_map_key(Room, Rooms) ->
    State;
join(Room, #state{rooms = Rooms} = State) ->
    %% The message that the name is part of must not be kept alive by it.
    Kept = binary:copy(Room),
    ok = pg:join(groups(), {room, Kept}, self()),
    State#state{rooms = Rooms#{Kept => []}}.

refuse(State) ->
    {[{close, ?UNSUPPORTED_DATA, <<>>}], State}.

deliver(Members, Message) ->
    Delivery = {deliver, Message},
    lists:foreach(fun(Member) -> Member ! Delivery end, Members).

%% All deliveries that wait in the mailbox, as frames.
waiting() ->
    receive
        {deliver, Message} -> [{text, Message} | waiting()]
    after 0 -> []
    end.

is_name(Name) ->
    byte_size(Name) >= 1 andalso byte_size(Name) =< ?NAME_BYTES_MAX andalso is_all_of_name(Name).

is_all_of_name(<<C, Rest/binary>>) when
    C >= $a, C =< $z; C >= $A, C =< $Z; C >= $0, C =< $9; C =:= $_; C =:= $.; C =:= $-
->
    is_all_of_name(Rest);
is_all_of_name(Rest) ->
    Rest =:= <<>>.
